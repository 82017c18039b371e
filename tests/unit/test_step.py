"""One step against gradients and updates by hand: accumulation, clipping, optimisers, compiler and feed."""

import copy
import logging
import math
import os
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discern.data.loading import ImageStore
from discern.errors import ParamsError
from discern.models.encoder import ResNetEncoder, build_encoder
from discern.params import Params
from discern.params.training import Base, Optimizer
from discern.settings import settings
from discern.training.distributed import World
from discern.training.feed import Feed
from discern.training.objectives import Batch, ContrastiveObjective, Objective, SupervisedObjective
from discern.training.optimizers import Optimizers
from discern.training.schedule import plan
from discern.training.step import TrainingStep
from tests.unit.shared_step import DoubleViews
from tests.unit.test_training import CPU, ENCODER, contrastive, momentum, offline_pairs, store, supervised

SIZE, BATCH = 16, 8
PIXELS = np.random.default_rng(0).integers(0, 256, (20, SIZE, SIZE, 3), dtype=np.uint8)
OBJECTIVES: list[Callable[[], Objective]] = [supervised, contrastive, momentum, offline_pairs]


@pytest.fixture
def base(params: Params) -> Base:
    update = {"encoder": ENCODER, "batch_size": BATCH, "precision": "fp32", "accumulate": 1}
    return params.base.model_copy(update=update)


def batch(objective: Objective, rows: range = range(5, 5 + BATCH)) -> Batch:
    """Images 5 to 12, or some of them, in the middle of a run."""
    index = torch.tensor(list(rows))
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)[index]
    return Batch(images, index, epoch=1, step=5, steps=10, extra=objective.fetch(index, 1))


def parts(objective: Objective, count: int) -> list[Batch]:
    """The same images as so many batches of their own."""
    size = BATCH // count
    return [batch(objective, range(5 + number * size, 5 + (number + 1) * size)) for number in range(count)]


def double_step(objective: Objective, base: Base) -> TrainingStep:
    step = TrainingStep(objective.double(), base, SIZE, 0, BATCH, World(CPU))
    step.augment = DoubleViews(base.views, SIZE, 0)
    return step


def gradients(objective: Objective) -> dict[str, Tensor]:
    return {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


def norm(values: dict[str, Tensor]) -> float:
    """Euclidean norm of everything together."""
    return math.sqrt(sum(float(value.square().sum()) for value in values.values()))


def by_hand(objective: Objective, step: TrainingStep, count: int) -> tuple[dict[str, Tensor], float]:
    """Mean of the parts' gradients and losses, each part computed by itself on a fresh copy."""
    total: dict[str, Tensor] = {}
    losses = []
    for part in parts(objective, count):
        twin = copy.deepcopy(objective)
        loss = twin(part, step.augment).loss
        loss.backward()
        losses.append(float(loss.detach()))
        for name, gradient in gradients(twin).items():
            total[name] = total.get(name, torch.zeros_like(gradient)) + gradient / count
    return total, sum(losses) / count


@pytest.fixture
def unmoved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimisers leave weights and gradients as they are, to be looked at."""
    monkeypatch.setattr(Optimizers, "step", lambda self: None)


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("build", OBJECTIVES, ids=lambda b: b.__name__)
def test_accumulated_gradients_are_the_mean_of_the_parts(
    build: Callable[[], Objective], count: int, base: Base
) -> None:
    objective = build()
    step = double_step(objective, base.model_copy(update={"accumulate": count}))
    expected, loss = by_hand(objective, step, count)
    outcome = step(batch(objective))
    found = gradients(objective)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)
    assert float(outcome.losses["loss"]) == pytest.approx(loss, rel=1e-12)


@pytest.mark.usefixtures("unmoved")
def test_parts_are_contrasted_among_themselves(base: Base) -> None:
    found = []
    for count in (1, 2):
        objective = contrastive()
        double_step(objective, base.model_copy(update={"accumulate": count}))(batch(objective))
        found.append(gradients(objective))
    whole, cut = found
    assert norm({name: cut[name] - gradient for name, gradient in whole.items()}) > 0.1 * norm(whole)


@pytest.mark.parametrize("count", [1, 2])
def test_the_queue_takes_the_keys_of_all_parts_in_order(count: int, base: Base) -> None:
    objective = momentum()
    assert isinstance(objective, ContrastiveObjective)
    step = double_step(objective, base.model_copy(update={"accumulate": count}))
    before = objective.get_buffer("method.queue").clone()
    keys = [
        copy.deepcopy(objective).method.target(step.augment(part.images, part.index, part.epoch, 1))
        for part in parts(objective, count)
    ]
    step(batch(objective))
    queue = objective.get_buffer("method.queue")
    torch.testing.assert_close(queue[:BATCH], torch.cat(keys), rtol=1e-10, atol=1e-12)
    assert torch.equal(queue[BATCH:], before[BATCH:])
    assert int(objective.get_buffer("method.queue_start")) == BATCH
    step(batch(objective))
    assert int(objective.get_buffer("method.queue_start")) == 0  # of 16


@pytest.mark.usefixtures("unmoved")
@pytest.mark.parametrize(("share", "kept"), [(0.25, 0.25), (0.99, 0.99), (1.01, 1.0), (0.0, 1.0)])
@pytest.mark.parametrize("count", [1, 2])
def test_gradients_are_clipped_to_the_limit_and_the_norm_before_is_told(
    count: int, share: float, kept: float, base: Base
) -> None:
    """Over all parameters together, those of the decoder too; a limit of 0 is none."""
    objective = contrastive()
    plain = double_step(objective, base.model_copy(update={"accumulate": count}))
    expected, _ = by_hand(objective, plain, count)
    whole = norm(expected)
    optimizer = base.optimizer.model_copy(update={"clip": share * whole})
    step = double_step(objective, base.model_copy(update={"accumulate": count, "optimizer": optimizer}))
    outcome = step(batch(objective), with_norm=True)
    assert outcome.figures()["grad_norm"] == pytest.approx(whole, rel=1e-9)
    found = gradients(objective)
    assert norm(found) == pytest.approx(kept * whole, rel=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], kept * gradient, rtol=1e-5, atol=1e-12, msg=name)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_the_norm_is_told_where_it_is_known_anyway(clip: float, base: Base) -> None:
    objective = supervised()
    optimizer = base.optimizer.model_copy(update={"clip": clip})
    outcome = double_step(objective, base.model_copy(update={"optimizer": optimizer}))(batch(objective))
    assert (outcome.figures()["grad_norm"] is None) is (clip == 0)


class Plain(Objective):
    """A weight and a bias, to be moved along gradients that are given."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = None
        self.weight = nn.Parameter(torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor([1.0, -0.5], dtype=torch.float64))


WEIGHT = [[0.3, -0.2, 0.1, 0.7], [0.1, 0.4, -0.6, 0.2], [-0.5, 0.1, 0.1, 0.3]]
BIAS = [[0.2, -0.9], [0.6, 0.1], [-0.2, 0.4]]
RATES = [0.2, 0.2, 0.15]  # 0.1 per 256 images, a batch of 512, and the cosine of steps 0 to 2 of 4
MOMENTUM = 0.9


def sgd(values: list[float], gradients: list[list[float]], decay: float) -> list[float]:
    velocity = [0.0] * len(values)
    for rate, gradient in zip(RATES, gradients, strict=True):
        for i in range(len(values)):
            velocity[i] = MOMENTUM * velocity[i] + gradient[i] + decay * values[i]
            values[i] -= rate * velocity[i]
    return values


def adamw(values: list[float], gradients: list[list[float]], decay: float) -> list[float]:
    """Loshchilov and Hutter 2019, with the usual 0.9 and 0.999."""
    first, second = [0.0] * len(values), [0.0] * len(values)
    for t, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True), 1):
        for i in range(len(values)):
            first[i] = 0.9 * first[i] + 0.1 * gradient[i]
            second[i] = 0.999 * second[i] + 0.001 * gradient[i] ** 2
            m, v = first[i] / (1 - 0.9**t), second[i] / (1 - 0.999**t)
            values[i] -= rate * (m / (math.sqrt(v) + 1e-8) + decay * values[i])
    return values


def lars(values: list[float], gradients: list[list[float]], decay: float) -> list[float]:
    """You et al. 2017, with a trust coefficient of 0.001."""
    velocity = [0.0] * len(values)
    for rate, gradient in zip(RATES, gradients, strict=True):
        size, slope = math.hypot(*values), math.hypot(*gradient)
        local = 0.001 * size / (slope + decay * size)
        for i in range(len(values)):
            velocity[i] = MOMENTUM * velocity[i] + local * (gradient[i] + decay * values[i])
            values[i] -= rate * velocity[i]
    return values


def moved(kind: str, decay: float, batch_size: int = 512) -> Plain:
    """After three steps of four along the gradients above."""
    objective = Plain()
    params = Optimizer.model_validate(
        {"kind": kind, "lr": 0.1, "momentum": MOMENTUM, "weight_decay": decay, "clip": 0, "warmup": 0}
    )
    optimizers = Optimizers(objective, params, batch_size, decoder_lr=1.0)
    for step in range(3):
        objective.weight.grad = torch.tensor(WEIGHT[step], dtype=torch.float64).view(2, 2)
        objective.bias.grad = torch.tensor(BIAS[step], dtype=torch.float64)
        assert optimizers.schedule(step, 4) == pytest.approx(RATES[step] * batch_size / 512)
        optimizers.step()
        assert objective.weight.grad is None
    return objective


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize(
    ("kind", "of_weights", "of_biases"), [("sgd", sgd, sgd), ("adamw", adamw, adamw), ("lars", lars, sgd)]
)
def test_optimisers_move_weights_and_biases_as_their_papers_say(
    kind: str,
    of_weights: Callable[[list[float], list[list[float]], float], list[float]],
    of_biases: Callable[[list[float], list[list[float]], float], list[float]],
    decay: float,
) -> None:
    """Biases are neither decayed nor scaled by LARS."""
    start, end = Plain(), moved(kind, decay)
    weight = of_weights(start.weight.flatten().tolist(), WEIGHT, decay)
    bias = of_biases(start.bias.tolist(), BIAS, 0.0)
    assert end.weight.flatten().tolist() == pytest.approx(weight, rel=1e-7)
    assert end.bias.tolist() == pytest.approx(bias, rel=1e-7)


def test_twice_the_batch_moves_twice_as_far() -> None:
    start = Plain().weight
    once, twice = (moved("sgd", 0.0, size).weight - start for size in (256, 512))
    torch.testing.assert_close(twice, 2 * once, rtol=1e-12, atol=0)


def test_the_schedule_moves_the_decoders_rate_too_but_not_the_batch(base: Base) -> None:
    for batch_size in (256, 512):
        optimizers = Optimizers(contrastive(), base.optimizer, batch_size, decoder_lr=0.003)
        main, adam = optimizers.all
        for step, factor in ((0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5)):  # warm-up over 10 of 100 steps
            lr = optimizers.schedule(step, 100)
            assert lr == pytest.approx(factor * base.optimizer.lr * batch_size / 256)
            assert [group["lr"] for group in main.param_groups] == [lr, lr]
            assert adam.param_groups[0]["lr"] == pytest.approx(factor * 0.003)


def test_a_momentum_encoder_is_left_to_its_momentum(base: Base) -> None:
    objective = momentum()
    (main,) = Optimizers(objective, base.optimizer, BATCH, 0.1).all
    trained = {id(p) for group in main.param_groups for p in group["params"]}
    for name, parameter in objective.named_parameters():
        assert (id(parameter) in trained) is not name.startswith("method.key_"), name


def tiny() -> Objective:
    """A supervised encoder of only its first stage, which compiles in seconds."""
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER, 0)
    encoder.layer2 = encoder.layer3 = encoder.layer4 = nn.Identity()
    encoder.dim = 8
    return SupervisedObjective(encoder, torch.arange(20) % 3, 3, 0.1)


def one_step(base: Base) -> Objective:
    objective = tiny()
    TrainingStep(objective, base, SIZE, 0, BATCH, World(CPU))(batch(objective))
    return objective


def compiled(objective: Objective) -> bool:
    return objective.encoder._compiled_call_impl is not None


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Compilation is asked for, and nothing compiled before is found again."""
    import torch._dynamo

    monkeypatch.setenv("DISCERN_COMPILE", "default")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    settings.cache_clear()
    torch._dynamo.reset()
    yield
    settings.cache_clear()
    torch._dynamo.reset()


@pytest.mark.usefixtures("compiling")
def test_a_compiler_that_does_not_work_is_told_of_and_changes_nothing(
    base: Base, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch._inductor.config

    with torch._inductor.config.patch({"cpp.cxx": ("/there/is/no/compiler",)}):
        uncompiled = one_step(base)
    (said,) = [r.getMessage() for r in caplog.records if r.name == "discern.training.step"]
    assert said.startswith("DISCERN_COMPILE=default does not work here, going on without it: ")
    assert "/there/is/no/compiler" in said
    assert "\n" not in said
    assert not compiled(uncompiled)
    monkeypatch.setenv("DISCERN_COMPILE", "none")
    settings.cache_clear()
    eager = one_step(base)
    for (name, a), b in zip(uncompiled.state_dict().items(), eager.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


CXX = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
HEADERS = Path(sysconfig.get_path("include"), "Python.h")


@pytest.mark.slow
@pytest.mark.skipif(not CXX or not HEADERS.exists(), reason="no C++ compiler, or no headers of Python")
@pytest.mark.usefixtures("compiling")
def test_a_compiled_step_is_the_eager_one(
    base: Base, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fast = one_step(base)
    assert compiled(fast)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("discern")]
    monkeypatch.setenv("DISCERN_COMPILE", "none")
    settings.cache_clear()
    eager = one_step(base)
    assert not compiled(eager)
    start = tiny().state_dict()
    for (name, a), b in zip(fast.state_dict().items(), eager.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()), msg=name)
    assert not torch.equal(eager.state_dict()["encoder.conv1.weight"], start["encoder.conv1.weight"])


@pytest.mark.parametrize("count", [1, 2])
def test_the_compilers_trial_takes_no_more_images_than_a_step(
    count: int, base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch is computed in parts because it does not fit into memory at once."""
    monkeypatch.setattr(ResNetEncoder, "compile", lambda self, **options: None)
    monkeypatch.setenv("DISCERN_COMPILE", "default")
    settings.cache_clear()
    try:
        objective, seen = contrastive(), list[int]()
        objective.encoder.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
        step = TrainingStep(objective, base.model_copy(update={"accumulate": count}), SIZE, 0, BATCH, World(CPU))
    finally:
        settings.cache_clear()
    trial = seen.copy()
    seen.clear()
    step(batch(objective))
    assert len(trial) == 1
    assert seen == [2 * BATCH // count] * count
    assert trial[0] <= seen[0]


def test_a_batch_is_split_with_all_that_belongs_to_its_images() -> None:
    index = torch.tensor([4, 2, 9, 0, 7, 5])
    extra = {"perturbed": 10 * index[:, None], "original": 100 * index}
    whole = Batch(index.view(6, 1, 1, 1).expand(6, 3, 2, 2), index, 3, 17, 40, extra)
    assert whole.split(1) == [whole]
    for count in (2, 3, 6):
        split = whole.split(count)
        assert [len(part.index) for part in split] == [6 // count] * count
        assert torch.equal(torch.cat([part.index for part in split]), index)
        for part in split:
            assert (part.epoch, part.step, part.steps) == (3, 17, 40)
            assert torch.equal(part.images[:, 0, 0, 0], part.index)
            assert torch.equal(part.extra["perturbed"][:, 0], 10 * part.index)
            assert torch.equal(part.extra["original"], 100 * part.index)
    without = Batch(whole.images, index, 3, 17, 40).split(3)
    assert [part.extra for part in without] == [{}, {}, {}]


NUMBERED: ImageStore = store(np.arange(20, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones((1, 4, 4, 3), np.uint8))


def feed(rank: int = 0, size: int = 1, accumulate: int = 1, seed: int = 0, batch_size: int = 8) -> Feed:
    """Of 20 images that show their number; whatever is fetched tells for whom."""

    def fetch(index: Tensor, epoch: int) -> dict[str, Tensor]:
        return {"asked": 100 * epoch + index}

    return Feed(NUMBERED, plan(10, 20, batch_size, 2), seed, fetch, rank, size, accumulate)


@pytest.mark.parametrize(
    ("batch_size", "size", "accumulate"), [(8, 3, 1), (8, 1, 3), (8, 2, 8), (8, 16, 1), (7, 2, 1), (64, 8, 1)]
)
def test_a_batch_that_cannot_be_cut_is_an_error_that_names_the_parameter(
    batch_size: int, size: int, accumulate: int
) -> None:
    used = min(batch_size, 20)
    said = rf"base\.batch_size = {used} .* into {size} processes x {accumulate} parts \(base\.accumulate\)"
    with pytest.raises(ParamsError, match=said):
        feed(0, size, accumulate, batch_size=batch_size)


@pytest.mark.parametrize("step", [0, 1, 2, 7])
@pytest.mark.parametrize("size", [2, 4])
def test_the_processes_parts_joined_are_the_batch_of_one(size: int, step: int) -> None:
    alone = feed()(step)
    together = [feed(rank, size)(step) for rank in range(size)]
    assert [len(part.index) for part in together] == [8 // size] * size
    assert torch.equal(torch.cat([part.index for part in together]), alone.index)
    assert torch.equal(torch.cat([part.images for part in together]), alone.images)
    assert torch.equal(torch.cat([part.extra["asked"] for part in together]), alone.extra["asked"])
    assert {(part.epoch, part.step, part.steps) for part in together} == {(step // 2, step, 12)}


def test_a_batch_holds_the_images_of_its_numbers() -> None:
    for step in (0, 3):
        found = feed()(step)
        assert found.images.shape == (8, 3, 4, 4)
        assert torch.equal(found.images[:, 2, 1, 3].long(), found.index)
        assert torch.equal(found.extra["asked"], 100 * (step // 2) + found.index)
        assert torch.equal(feed().rows(step), found.index)


def test_an_epoch_shows_no_image_twice_and_the_next_has_another_order() -> None:
    source = feed()
    epochs = [torch.cat([source.rows(2 * epoch), source.rows(2 * epoch + 1)]).tolist() for epoch in range(5)]
    assert all(len(set(rows)) == 16 and set(rows) <= set(range(20)) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 5
    assert {row for rows in epochs for row in rows} == set(range(20))
    assert source.rows(0).tolist() == epochs[0][:8]  # whatever was asked before
    assert feed(seed=1).rows(0).tolist() != epochs[0][:8]
