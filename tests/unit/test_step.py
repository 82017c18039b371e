"""One step against gradients by hand: accumulation and clipping; and compiled against as it is."""

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

from discern.methods.labelled.supervised import SupervisedObjective
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.params.base import Base
from discern.params.pipeline import Params
from discern.settings import settings
from discern.training.distributed import World
from discern.training.objective import Batch, Objective
from discern.training.optimizers import Optimizers
from discern.training.step import TrainingStep
from tests.methods import ENCODER
from tests.unit.shared_step import DoubleViews
from tests.unit.test_training import CPU, contrastive, momentum, offline_pairs, supervised

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
    monkeypatch.setattr(ImageEncoder, "compile", lambda self, **options: None)
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
