"""The training loop, readable on one screen and resumable at any step."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from discern.errors import InterruptedStageError
from discern.images.loading import ImageStore, ReadAhead
from discern.models.encoder import ImageEncoder
from discern.params.base import Base
from discern.training.checkpoint import Checkpoint, State
from discern.training.distributed import World
from discern.training.feed import Feed
from discern.training.health import Row, Window, lost_run, memory_gb, warnings
from discern.training.objective import Objective
from discern.training.progress import TrainingProgress
from discern.training.schedule import Plan
from discern.training.step import TrainingStep

log = logging.getLogger(__name__)

LOGGED_POINTS = 100  # rows of a training curve, whatever the number of steps
MONITOR_POINTS = 5  # of them with a kNN figure
ASK_EVERY = 10  # steps after which several processes agree on stops and checkpoints, by a round of messages


@dataclass(frozen=True)
class Run:
    """What a training run needs besides its objective.

    Attributes:
        name: shown beside the progress.
        images: the training set, uint8 (images, S, S, 3).
        plan: steps and batch size.
        base: precision, optimiser and views.
        size: side of a view in pixels.
        seed: of data order and views.
        world: the processes and this one's device.
        checkpoint: where it can go on from.
        on_row: called with every logged row and its step, in the first process.
        monitor: a figure of the encoder to watch, e.g. kNN on val; may return None.
        stop: asked after every step; True saves a checkpoint and ends the run.
    """

    name: str
    images: ImageStore
    plan: Plan
    base: Base
    size: int
    seed: int
    world: World
    checkpoint: Checkpoint
    on_row: Callable[[Row, int], None] = lambda _row, _step: None
    monitor: Callable[[ImageEncoder], float | None] = lambda _encoder: None
    stop: Callable[[], bool] = lambda: False


def train(objective: Objective, run: Run) -> list[Row]:
    """Train to the end of the plan, from a checkpoint where there is one.

    Returns:
        The training curve, one row for each logged step.

    Raises:
        InterruptedStageError: a signal asked to stop; the checkpoint is saved.
        ModelError: the loss is no longer finite.
        ParamsError: a batch cannot be shared among the processes.
    """
    plan, world, first = run.plan, run.world, run.world.rank == 0
    feed = Feed(run.images, plan, run.seed, objective.fetch, world.rank, world.size, run.base.accumulate)
    step_once = TrainingStep(objective, run.base, run.size, run.seed, plan.batch_size, world)
    chance = objective.chance(plan.batch_size // run.base.accumulate)
    rows, window, start = _restore(objective, step_once, run)
    if start and first:
        log.info("%s: going on after step %d of %d", run.name, start, plan.steps)
    log_every = max(1, plan.steps // LOGGED_POINTS)
    monitor_every = max(1, math.ceil(plan.steps / log_every / MONITOR_POINTS)) * log_every
    batches = ReadAhead(feed, range(start, plan.steps), enabled=not (run.images.resident and objective.resident))
    began = time.perf_counter()

    with TrainingProgress(run.name, plan.steps, start, shown=first) as progress:
        for batch in batches:
            done = batch.step + 1
            logged = done % log_every == 0 or done == plan.steps
            outcome = step_once(batch, with_norm=logged)
            window.add(outcome.losses)
            if logged:
                _check(window, feed, batch.step, run.name)
                row: Row = {"step": done, "passes": plan.passes_per_image(done), "chance": chance}
                row |= window.means() | outcome.figures()
                watched = first and (done % monitor_every == 0 or done == plan.steps)
                with step_once.uncompiled():
                    row["knn"] = run.monitor(objective.encoder) if watched else None
                rows.append(row)
                seconds = time.perf_counter() - began
                speed, waited = (done - start) * plan.batch_size / seconds, batches.waited / seconds
                seen: Row = {"images_per_s": speed, "data_wait": waited, "memory_gb": memory_gb(world.device)}
                if first:
                    run.on_row(row | seen, done)
                progress.update(done, row["loss"] or 0.0, chance, speed, waited)
            stopping = due = False
            if world.size == 1 or done % ASK_EVERY == 0:
                stopping, due = world.any(run.stop(), first and run.checkpoint.due())
            if stopping or due:
                # A checkpoint of a lost run would be of no use.
                _check(window, feed, batch.step, run.name)
                _check_weights(objective, feed, batch.step, run.name)
                state = _state(objective, step_once, rows, window, done)  # in all: it holds all their losses
                if first:
                    run.checkpoint.save(state, final=stopping)
            if stopping:
                raise InterruptedStageError(f"{run.name}: stopped after step {done} of {plan.steps}")
    if start < plan.steps:
        _check_weights(objective, feed, plan.steps - 1, run.name)
    for warning in warnings(rows) if first else []:
        log.warning("%s: %s", run.name, warning)
    return rows


def _state(objective: Objective, step: TrainingStep, rows: list[Row], window: Window, done: int) -> State:
    """Everything that decides how the run goes on; order and views follow from seed and step."""
    optimizers = [optimizer.state_dict() for optimizer in step.optimizers.all]
    return {
        "objective": objective.state_dict(),
        "optimizers": optimizers,
        "step": done,
        "rows": rows,
        "window": window.shared(),
    }


def _restore(objective: Objective, step: TrainingStep, run: Run) -> tuple[list[Row], Window, int]:
    """Rows, window and step to go on from; the first process reads them for all."""
    state = run.world.broadcast(run.checkpoint.load() if run.world.rank == 0 else None)
    if state is None:
        return [], Window(run.world), 0
    objective.load_state_dict(state["objective"])
    for optimizer, saved in zip(step.optimizers.all, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    window = [{name: value.to(run.world.device) for name, value in losses.items()} for losses in state["window"]]
    return state["rows"], Window(run.world, window), state["step"]


def _check_weights(objective: Objective, feed: Feed, step: int, name: str) -> None:
    """A loss may be finite while its gradient is not: weights of such a step are of no use either.

    Raises:
        ModelError: it names the step and its images.
    """
    if not torch.stack([p.isfinite().all() for p in objective.parameters()]).all():
        raise lost_run(name, "gradient", step, feed.epoch(step), feed.rows(step))


def _check(window: Window, feed: Feed, step: int, name: str) -> None:
    """Stop a run whose loss is lost.

    Raises:
        ModelError: it names the first such step and its images.
    """
    ago = window.first_lost()
    if ago is not None:
        lost = step - ago
        raise lost_run(name, "loss", lost, feed.epoch(lost), feed.rows(lost))
