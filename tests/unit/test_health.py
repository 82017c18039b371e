"""A lost loss stops the run where it happened, and a run that went badly says so."""

import logging
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discern.errors import InterruptedStageError, ModelError
from discern.params.base import Base
from discern.params.pipeline import Params
from discern.training.checkpoint import Checkpoint
from discern.training.distributed import World
from discern.training.feed import Feed
from discern.training.health import Row, Window, lost_run, memory_gb, spread, warnings
from discern.training.loop import Run, train
from discern.training.objective import Batch, Objective, Terms
from discern.training.schedule import Plan, plan
from tests.methods import ENCODER
from tests.unit.test_training import CPU, contrastive, store

NAN, INF = math.nan, math.inf
NEVER = 10_000
PLAN = plan(budget=800, images=20, batch_size=8, passes=2)  # 1000 steps, every tenth of which is logged
SHORT = plan(budget=2, images=20, batch_size=8, passes=2)
IMAGES = store(np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8))


def window(*losses: float) -> Window:
    window = Window(World(CPU))
    for loss in losses:
        window.add({"loss": torch.tensor(loss), "pair": torch.tensor(2 * loss)})
    return window


def test_a_window_gives_the_mean_of_every_loss_and_starts_again() -> None:
    losses = window(1.0, 2.0, 6.0)
    assert losses.means() == {"loss": 3.0, "pair": 6.0}
    assert losses.first_lost() is None
    losses.add({"loss": torch.tensor(5.0), "pair": torch.tensor(0.5)})
    assert losses.means() == {"loss": 5.0, "pair": 0.5}


def test_a_window_goes_on_from_the_steps_of_a_checkpoint() -> None:
    before = window(1.0, 2.0)
    after = Window(World(CPU), before.shared())
    after.add({"loss": torch.tensor(NAN), "pair": torch.tensor(0.0)})
    assert after.first_lost() == 0
    after.add({"loss": torch.tensor(6.0), "pair": torch.tensor(0.0)})
    assert after.first_lost() == 1
    assert after.means()["pair"] == 1.5


@pytest.mark.parametrize(
    ("losses", "ago"),
    [
        ([], None),
        ([1.0, 0.0, -3.0], None),
        ([3e38], None),
        ([NAN], 0),
        ([1.0, 2.0, INF], 0),
        ([1.0, -INF, 2.0], 1),
        ([1.0, NAN, 2.0, NAN, INF], 3),
        ([INF, NAN, NAN], 2),
    ],
    ids=str,
)
def test_the_first_lost_loss_of_a_window_is_found(losses: list[float], ago: int | None) -> None:
    assert window(*losses).first_lost() == ago


@pytest.mark.parametrize(
    ("rows", "shown"),
    [(range(3, 6), "rows 3, 4, 5 of data"), (range(8), "rows 0, 1, 2, 3, 4, 5, 6, 7 of data"),
     (range(10, 21), "rows 10, 11, 12, 13, 14, 15, 16, 17 and 3 more of data")],
)  # fmt: skip
def test_the_error_names_step_epoch_and_images_as_people_count(rows: range, shown: str) -> None:
    error = lost_run("discern (seed 0)", "loss", step=41, epoch=2, rows=torch.tensor(list(rows)))
    assert isinstance(error, ModelError)
    assert str(error).startswith("discern (seed 0): the loss is lost (infinite or NaN) at step 42, epoch 3;")
    assert shown in str(error)
    assert "base.optimizer.lr" in str(error)


WELL: Row = {"contrastive": 1.0, "chance": 4.0, "std": 0.9}


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([], []),
        ([WELL], []),
        ([{**WELL, "contrastive": 3.91}], []),
        ([{**WELL, "contrastive": 3.93}], ["near its chance level 4.000"]),
        ([WELL, {**WELL, "contrastive": 4.2}], ["ends at 4.200"]),
        ([{**WELL, "contrastive": 4.2, "std": 0.0}, WELL], []),
        ([{**WELL, "std": 0.11}], []),
        ([{**WELL, "std": 0.09}], ["collapsed: its spread is 0.090"]),
        ([{"contrastive": 4.0, "chance": 4.0, "std": 0.0}], ["chance", "collapsed"]),
        ([{"cross_entropy": 1.0, "chance": 1.0, "std": 0.5}], []),
        ([{"contrastive": 4.0, "chance": None}], []),
    ],
)
def test_a_run_is_judged_by_its_last_row(rows: list[Row], found: list[str]) -> None:
    told = warnings(rows)
    assert len(told) == len(found)
    for warning, part in zip(told, found, strict=True):
        assert part in warning


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("used", [1, 2, 4])
def test_spread_counts_the_directions_that_are_used(used: int, dtype: torch.dtype) -> None:
    corners = torch.tensor(list(product([1.0, -1.0], repeat=used))).repeat(
        100, 1
    )  # of a cube in `used` dimensions
    embedding = nn.functional.normalize(nn.functional.pad(corners, (0, 4 - used))).to(dtype)
    assert spread(embedding) == pytest.approx(math.sqrt(used / 4), abs=0.01)


def test_memory_is_the_peak_and_counts_what_was_given_back() -> None:
    before = memory_gb(CPU)
    assert 0.05 < before < 1000
    block = np.ones(300_000_000, np.uint8)
    during = memory_gb(CPU)
    assert during > 0.1
    del block
    assert memory_gb(CPU) >= during


@pytest.fixture
def base(params: Params) -> Base:
    update = {"encoder": ENCODER, "batch_size": 8, "precision": "fp32", "accumulate": 1}
    return params.base.model_copy(update=update)


def run(
    objective: Objective,
    base: Base,
    folder: Path,
    plan: Plan = PLAN,
    every_s: float = 1000.0,
    stop_after: int = NEVER,
) -> list[Row]:
    asked = iter(range(1, NEVER))
    settings = Run(
        name="test",
        images=IMAGES,
        plan=plan,
        base=base,
        size=16,
        seed=0,
        world=World(CPU),
        checkpoint=Checkpoint(folder, every_s),
        on_row=lambda row, step: None,
        monitor=lambda encoder: None,
        stop=lambda: next(asked) == stop_after,
    )
    return train(objective, settings)


def losing(step: int, value: float) -> Objective:
    """The loss of one step is spoilt; NaN spreads to the weights, what is only infinite does not."""
    objective = contrastive()

    def spoil(module: nn.Module, args: tuple[Batch, object], terms: Terms) -> Terms:
        factor, shift = (value, 0.0) if math.isnan(value) else (1.0, value)
        return terms._replace(loss=factor * terms.loss + shift) if args[0].step == step else terms

    objective.register_forward_hook(spoil)
    return objective


def expected(step: int) -> str:
    """What the error says of a step, from 0, with the images that a feed of the same seed names."""
    rows = Feed(IMAGES, PLAN, 0, lambda index, epoch: {}, 0, 1, 1).rows(step).tolist()
    return (
        rf"^test: .* at step {step + 1}, epoch {step // 2 + 1}; that batch is rows {', '.join(map(str, rows))} of"
    )


def saved_steps(folder: Path) -> list[int]:
    return [int(path.name[:10]) for path in Checkpoint(folder).files]


@pytest.mark.parametrize(
    ("step", "value", "accumulate"),
    [(1, NAN, 1), (4, INF, 1), (4, NAN, 2), (9, INF, 1), (10, -INF, 1), (13, NAN, 1)],
)
def test_a_lost_loss_between_two_rows_names_its_own_step_and_images(
    step: int, value: float, accumulate: int, base: Base, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=expected(step)):
        run(losing(step, value), base.model_copy(update={"accumulate": accumulate}), tmp_path)
    assert saved_steps(tmp_path) == []


@pytest.mark.parametrize(("step", "value"), [(1, NAN), (9, INF), (13, NAN), (13, INF)])
def test_after_a_lost_loss_no_checkpoint_is_written(step: int, value: float, base: Base, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=expected(step)):
        run(losing(step, value), base, tmp_path, every_s=0)
    assert saved_steps(tmp_path) == [steps for steps in (step - 1, step) if steps]
    state = Checkpoint(tmp_path).load()
    assert state is not None
    assert all(torch.isfinite(value).all() for value in tensors(state))


def tensors(tree: object) -> list[Tensor]:
    """Every tensor of a state."""
    if isinstance(tree, Tensor):
        return [tree]
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []
    return [tensor for part in parts for tensor in tensors(part)]


def test_a_stop_signal_after_a_lost_loss_saves_nothing_and_tells_of_the_loss(base: Base, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=expected(13)):
        run(losing(13, INF), base, tmp_path, stop_after=16)
    assert saved_steps(tmp_path) == []


def test_a_run_that_goes_on_between_two_rows_still_names_the_step(base: Base, tmp_path: Path) -> None:
    with pytest.raises(InterruptedStageError):
        run(losing(NEVER, NAN), base, tmp_path, stop_after=13)
    with pytest.raises(ModelError, match=expected(15)):
        run(losing(15, INF), base, tmp_path)
    assert saved_steps(tmp_path) == [13]


def test_a_row_takes_in_the_steps_before_a_stop(base: Base, tmp_path: Path) -> None:
    """Rows come every tenth step; one run is stopped after 13 steps and goes on for 7."""
    for folder, stops in (("straight", [20]), ("stopped", [13, 7])):
        for stop in stops:
            with pytest.raises(InterruptedStageError):
                run(losing(NEVER, NAN), base, tmp_path / folder, stop_after=stop)
    straight, stopped = (Checkpoint(tmp_path / folder).load() for folder in ("straight", "stopped"))
    assert straight is not None
    assert stopped is not None
    assert [row["step"] for row in straight["rows"]] == [10, 20]
    assert stopped["rows"] == straight["rows"]


def losing_gradient(step: int) -> Objective:
    """The loss of one step is finite but its gradient is not, so that the weights are lost."""
    objective, now = contrastive(), [0]

    def spoil(gradient: Tensor) -> Tensor | None:
        return gradient * NAN if now[0] == step else None

    objective.register_forward_pre_hook(lambda module, args: now.__setitem__(0, args[0].step))
    objective.encoder.get_parameter("conv1.weight").register_hook(spoil)  # type: ignore[no-untyped-call]
    return objective


def test_weights_that_a_gradient_has_lost_are_never_saved(base: Base, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        run(losing_gradient(13), base, tmp_path, every_s=0)
    state = Checkpoint(tmp_path).load()
    assert state is not None
    assert all(torch.isfinite(value).all() for value in tensors(state["objective"]))


def test_weights_that_the_last_gradient_has_lost_are_an_error(base: Base, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        run(losing_gradient(SHORT.steps - 1), base, tmp_path, SHORT)


def test_a_run_that_has_learnt_nothing_says_so_at_its_end(
    base: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objective = contrastive()
    with torch.no_grad():
        for parameter in objective.get_submodule("method.projector").parameters():
            parameter.zero_()
    row = run(objective, base, tmp_path, SHORT)[-1]
    assert row["contrastive"] == pytest.approx(row["chance"])
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert told[0].startswith("test: the loss ends at 2.708, still near its chance level 2.708")
    assert told[1].startswith("test: the embedding has collapsed: its spread is 0.000")
