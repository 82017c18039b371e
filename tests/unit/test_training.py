"""The loop, its objectives, and that an interrupted run ends bit-equal to an undisturbed one."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from discern.errors import InterruptedStageError, ModelError
from discern.images.loading import Budget, ImageStore
from discern.images.views import Augment
from discern.methods.build import build_two_view
from discern.methods.labelled.supervised import SupervisedObjective
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.models.build import build_encoder
from discern.models.decoder import build_decoder
from discern.params.base import Base
from discern.params.pipeline import Params
from discern.params.synthesis import Decoder, Swap, TrainEncoder
from discern.params.two_view import MoCo, SimCLR
from discern.synthesis.criteria.basis import fit_basis
from discern.synthesis.pairs.decoding import Synthesizer
from discern.synthesis.pairs.objective import PairObjective
from discern.synthesis.pairs.sources import OfflinePairs, OnlinePairs, frozen_statistics, in_eval_mode
from discern.synthesis.reconstruction import ReconstructionObjective, reconstruction_loss
from discern.training.checkpoint import Checkpoint
from discern.training.distributed import World
from discern.training.health import Row, spread
from discern.training.loop import Run, train
from discern.training.objective import Batch, Objective
from discern.training.optimizers import Optimizers
from discern.training.schedule import cosine_with_warmup, linear_rise, plan
from tests.methods import ENCODER, TRAINED, adapted, objective

CPU = torch.device("cpu")
SIMCLR = SimCLR(kind="simclr", rate=1.0, temperature=0.2, hidden=16, dim=8)
MOCO = MoCo(
    kind="moco", rate=1.0, temperature=0.2, hidden=16, dim=8, batch_norm=False, queue=16, momentum=0.9,
    allow_long_queue=False,
)  # fmt: skip
PAIRS = TrainEncoder(
    passes=4, pair_weight=1.0, reconstruction_weight=0.1, pair="real", source="offline", batch_norm="separate",
    augment=True, warmup=0.5,
)  # fmt: skip


@pytest.fixture
def base(params: Params) -> Base:
    return params.base.model_copy(update={"encoder": ENCODER, "batch_size": 8, "precision": "bf16"})


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)


def store(array: NDArray[np.uint8]) -> ImageStore:
    return ImageStore(array, CPU, Budget(2**30))


def contrastive() -> Objective:
    encoder = build_encoder(ENCODER, 0)
    decoder = build_decoder(Decoder(width=16, resolution=16), encoder.dim, 0)
    return ReconstructionObjective(build_two_view(SIMCLR, encoder, 20, 0), decoder, 0.1)


def momentum() -> Objective:
    return ContrastiveObjective(build_two_view(MOCO, build_encoder(ENCODER, 0), 20, 0))


def offline_pairs(params: TrainEncoder = PAIRS) -> PairObjective:
    encoder = build_encoder(ENCODER, 0)
    decoder = build_decoder(Decoder(width=16, resolution=16), encoder.dim, 0)
    rng = np.random.default_rng(1)
    original, perturbed = (rng.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8) for n in (20, 40))
    source = OfflinePairs(store(perturbed), 2, store(original) if params.pair == "reconstructed" else None, seed=0)
    return PairObjective(build_two_view(SIMCLR, encoder, 20, 0), decoder, source, params, size=16)


def online_pairs() -> Objective:
    encoder = build_encoder(ENCODER, 0)
    decoder = build_decoder(Decoder(width=16, resolution=16), encoder.dim, 0)
    basis = fit_basis(torch.rand(30, encoder.dim, generator=torch.Generator().manual_seed(0)), "pca")
    synthesizer = Synthesizer(decoder, basis, torch.arange(encoder.dim) > 4, Swap(kind="swap"))
    params = PAIRS.model_copy(update={"source": "online", "pair": "reconstructed"})
    return PairObjective(
        build_two_view(SIMCLR, encoder, 20, 0), decoder, OnlinePairs(synthesizer, True, 0), params, 16
    )


def supervised() -> Objective:
    torch.manual_seed(0)
    return SupervisedObjective(build_encoder(ENCODER, 0), torch.arange(20) % 3, 3, 0.1)


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "reconstruction": contrastive,
    "offline pairs": offline_pairs,
    "online pairs": online_pairs,
    "adapted": partial(adapted, 20),
    **{kind: partial(objective, kind, 20) for kind in TRAINED},
}


def run(
    objective: Objective,
    base: Base,
    images: NDArray[np.uint8],
    folder: Path,
    budget: int = 12,
    stop_after: int | None = None,
    checkpoint: Checkpoint | None = None,
    source: ImageStore | None = None,
    world: World | None = None,
) -> list[Row]:
    asked = iter(range(1, 10_000))
    settings = Run(
        name="test",
        images=source or store(images),
        plan=plan(budget, len(images), base.batch_size, objective.passes),
        base=base,
        size=16,
        seed=0,
        world=world or World(CPU),
        checkpoint=checkpoint or Checkpoint(folder),
        on_row=lambda row, step: None,
        monitor=lambda encoder: float(next(encoder.parameters()).detach().sum()),
        stop=lambda: next(asked) == stop_after,
    )
    return train(objective, settings)


@pytest.mark.parametrize("build", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_interrupted_and_resumed_is_bit_equal_to_undisturbed(
    build: Callable[[], Objective], base: Base, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    straight = build()
    expected = run(straight, base, images, tmp_path / "a")
    first = build()
    with pytest.raises(InterruptedStageError, match=r"stopped after step 3 of"):
        run(first, base, images, tmp_path / "b", stop_after=3)
    resumed = build()
    rows = run(resumed, base, images, tmp_path / "b")
    assert rows == expected
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_the_same_seed_gives_the_same_run_and_another_does_not(
    base: Base, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    a, b = run(contrastive(), base, images, tmp_path / "a"), run(contrastive(), base, images, tmp_path / "b")
    assert a == b
    assert a[0]["loss"] != run(contrastive(), base, images[::-1].copy(), tmp_path / "c")[0]["loss"]


@pytest.mark.parametrize("build", [contrastive, offline_pairs])
def test_images_read_ahead_from_disk_give_the_same_run(
    build: Callable[[], Objective], base: Base, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    expected = run(build(), base, images, tmp_path / "a")
    np.save(tmp_path / "images.npy", images)
    on_disk = ImageStore(np.load(tmp_path / "images.npy", mmap_mode="r"), CPU, Budget(0))
    assert not on_disk.resident
    assert run(build(), base, images, tmp_path / "b", source=on_disk) == expected


def test_rows_say_where_the_run_stands(base: Base, images: NDArray[np.uint8], tmp_path: Path) -> None:
    rows = run(contrastive(), base, images, tmp_path)
    last = rows[-1]
    assert last["step"] == 15  # 12 passes x 20 images / (2 passes x 8 images)
    assert last["passes"] == pytest.approx(12)
    assert last["chance"] == pytest.approx(math.log(15))
    assert last["loss"] == pytest.approx(last["contrastive"] + 0.1 * last["reconstruction"], rel=1e-5)  # type: ignore[operator]
    assert sum(row["knn"] is not None for row in rows) == 5
    assert rows[0]["lr"] < rows[1]["lr"]  # type: ignore[operator]  # warm-up


def test_a_loss_that_is_lost_stops_the_run(base: Base, images: NDArray[np.uint8], tmp_path: Path) -> None:
    objective = contrastive()
    with torch.no_grad():
        objective.encoder.get_parameter("conv1.weight").fill_(float("nan"))
    with pytest.raises(ModelError, match=r"NaN\) at step 1, epoch 1; that batch is rows"):
        run(objective, base, images, tmp_path)


@pytest.mark.parametrize(
    ("pair", "weight", "passes"), [("real", 1.0, 3), ("reconstructed", 1.0, 4), ("real", 0.0, 2)]
)
def test_every_encoder_pass_is_counted(
    pair: str, weight: float, passes: int, base: Base, images: NDArray[np.uint8]
) -> None:
    objective = offline_pairs(PAIRS.model_copy(update={"pair": pair, "pair_weight": weight, "warmup": 0.0}))
    seen = 0

    def count(module: torch.nn.Module, args: tuple[torch.Tensor]) -> None:
        nonlocal seen
        seen += len(args[0])

    objective.encoder.register_forward_pre_hook(count)
    objective(batch(images, objective=objective), Augment(base.views, 16, 0))
    assert seen == 8 * passes == 8 * objective.passes


def batch(images: NDArray[np.uint8], step: int = 0, objective: Objective | None = None) -> Batch:
    x, index = torch.from_numpy(images[:8]).permute(0, 3, 1, 2), torch.arange(8)
    return Batch(x, index, epoch=0, step=step, steps=10, extra=objective.fetch(index, 0) if objective else {})


def test_without_pair_weight_ours_is_the_control(base: Base, images: NDArray[np.uint8]) -> None:
    augment = Augment(base.views, 16, 0)
    without = offline_pairs(PAIRS.model_copy(update={"pair_weight": 0.0, "reconstruction_weight": 0.0}))
    control = ContrastiveObjective(build_two_view(SIMCLR, build_encoder(ENCODER, 0), 20, 0))
    ours, theirs = (float(o(batch(images), augment).loss.detach()) for o in (without, control))
    assert ours == theirs


def test_pair_loss_is_the_contrast_of_a_view_with_the_synthesized_image(
    base: Base, images: NDArray[np.uint8]
) -> None:
    objective, augment = offline_pairs(), Augment(base.views, 16, 0)
    terms = objective(batch(images, 5, objective), augment)
    parts = {name: float(value.detach()) for name, value in terms.parts.items()}
    expected = parts["contrastive"] + 0.1 * parts["reconstruction"] + 1.0 * parts["pair"]
    assert float(terms.loss.detach()) == pytest.approx(expected, rel=1e-5)
    early = objective(batch(images, 1, objective), augment)
    parts = {name: float(value.detach()) for name, value in early.parts.items()}
    expected = parts["contrastive"] + 0.1 * parts["reconstruction"] + 0.2 * parts["pair"]  # warm-up over 5 steps
    assert float(early.loss.detach()) == pytest.approx(expected, rel=1e-5)
    perturbed = objective.fetch(torch.arange(8), 0)["perturbed"]
    view = augment(perturbed, torch.arange(8), 0, 3)
    first = augment(batch(images).images, torch.arange(8), 0, 0)
    second = augment(batch(images).images, torch.arange(8), 0, 1)
    y = objective.encoder(torch.cat([first, second]))[:8]
    by_hand = objective.method.contrast(y, objective.encoder(view))
    assert float(early.parts["pair"].detach()) == pytest.approx(float(by_hand.detach()), rel=1e-4)


@pytest.mark.parametrize(("kept", "same"), [("separate", True), ("joint", False)])
def test_synthesized_images_leave_no_trace_in_separate_statistics(
    kept: str, same: bool, base: Base, images: NDArray[np.uint8]
) -> None:
    augment = Augment(base.views, 16, 0)
    ours, control = offline_pairs(PAIRS.model_copy(update={"batch_norm": kept})), contrastive()
    ours(batch(images, objective=ours), augment)
    control(batch(images), augment)
    ours_mean, control_mean = (o.encoder.get_buffer("bn1.running_mean") for o in (ours, control))
    assert torch.equal(ours_mean, control_mean) is same
    assert ours.encoder.get_submodule("bn1").momentum == 0.1


def test_context_managers_put_everything_back() -> None:
    norm = torch.nn.BatchNorm1d(2)
    with frozen_statistics(norm, True):
        norm(torch.randn(4, 2) + 9)
    with pytest.raises(ValueError, match="expected 2D"), frozen_statistics(norm, True):
        norm(torch.randn(4, 2, 2, 2))
    assert norm.momentum == 0.1
    assert torch.equal(norm.get_buffer("running_mean"), torch.zeros(2))
    with in_eval_mode(norm):
        assert not norm.training
    assert norm.training


def test_offline_pairs_take_every_copy_in_turn_and_the_right_image() -> None:
    original = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1) * np.ones((1, 4, 4, 3), np.uint8)
    perturbed = original[:, None] * 10 + np.arange(3, dtype=np.uint8).reshape(1, 3, 1, 1, 1)
    source = OfflinePairs(store(perturbed.reshape(-1, 4, 4, 3)), 3, store(original), seed=0)
    chosen = set()
    for epoch in range(12):
        index = torch.tensor([3, 1])
        fetched = source.fetch(index, epoch)
        images = source(Batch(torch.empty(0), index, epoch, 0, 1, fetched), torch.empty(0))
        assert images.original is not None
        assert images.original[:, 0, 0, 0].tolist() == [3, 1]
        assert (images.perturbed[:, 0, 0, 0] // 10).tolist() == [3, 1]
        chosen.add(int(images.perturbed[0, 0, 0, 0]) % 10)
    assert chosen == {0, 1, 2}


def test_decoder_learns_by_its_own_optimiser_and_decay_spares_biases(base: Base) -> None:
    objective = contrastive()
    objective.adam_lr = 0.003
    main, adam = Optimizers(objective, base.optimizer, batch_size=64).all
    assert main.param_groups[0]["lr"] == pytest.approx(base.optimizer.lr / 4)
    assert adam.param_groups[0]["lr"] == 0.003
    sizes = [sum(p.numel() for g in o.param_groups for p in g["params"]) for o in (main, adam)]
    assert sum(sizes) == sum(p.numel() for p in objective.parameters())
    assert objective.adam is not None
    assert sizes[1] == sum(p.numel() for p in objective.adam.parameters())
    assert {p.ndim for p in main.param_groups[1]["params"]} == {1}
    assert main.param_groups[1]["weight_decay"] == 0


def test_reconstruction_loss_compares_at_the_decoders_resolution() -> None:
    decoder = build_decoder(Decoder(width=16, resolution=16), 8, 0).eval()
    y, x = torch.rand(3, 8), torch.rand(3, 3, 32, 32)
    small = torch.nn.functional.interpolate(x, size=16, mode="bilinear", antialias=True)
    expected = (decoder(y) - small).pow(2).mean()
    torch.testing.assert_close(reconstruction_loss(decoder, y, x), expected)


def test_spread_is_one_for_a_sphere_and_zero_for_a_point() -> None:
    sphere = torch.nn.functional.normalize(torch.randn(4000, 32, generator=torch.Generator().manual_seed(0)))
    assert spread(sphere) == pytest.approx(1.0, abs=0.02)
    assert spread(sphere[:1].expand(10, -1)) == pytest.approx(0.0, abs=1e-6)


def test_plan_spends_the_budget_whatever_a_step_costs() -> None:
    for passes in (1, 2, 3, 4):
        steps = plan(24, 2000, 100, passes)
        assert steps.passes_per_image(steps.steps) == pytest.approx(24, rel=0.01)
    assert plan(1, 5, 128, 2).batch_size == 5
    assert plan(1, 5, 128, 2).steps == 1


def test_schedules() -> None:
    factors = [cosine_with_warmup(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] < 0.001
    assert [linear_rise(s, 100, 0.1) for s in (0, 5, 10, 99)] == [0, 0.5, 1, 1]
    assert linear_rise(0, 100, 0.0) == 1
