"""Training without a pipeline: an objective, images and a folder are all it takes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from discern.images.loading import Budget, ImageStore
from discern.params.base import Base
from discern.training.checkpoint import Checkpoint
from discern.training.device import make_deterministic, resolve_device
from discern.training.distributed import World
from discern.training.health import Row
from discern.training.loop import Run, train
from discern.training.objective import Objective
from discern.training.schedule import plan


def train_alone(
    objective: Objective,
    images: npt.NDArray[np.uint8],
    base: Base,
    passes: int,
    work: Path,
    on_row: Callable[[Row, int], None],
    seed: int = 0,
) -> list[Row]:
    """Train as the pipeline's stages do; a run that was killed goes on from its checkpoint.

    Args:
        objective: trained in place, on the device of `DISCERN_DEVICE`.
        images: (N, S, S, 3); may be memory-mapped.
        base: precision, batch size, optimiser and views.
        passes: encoder passes per image.
        work: folder of the checkpoints, of this run alone; removed at the end.
        on_row: called with every row of the curve and its step.
        seed: of data order and views.

    Returns:
        The training curve: step, loss, its chance level and what else is watched.

    Raises:
        ModelError: the loss is no longer finite.
    """
    make_deterministic(base.deterministic)
    world = World(resolve_device())
    run = Run(
        name="training",
        images=ImageStore(images, world.device, Budget.of(world.device)),
        plan=plan(passes, len(images), base.batch_size, objective.passes),
        base=base,
        size=images.shape[1],
        seed=seed,
        world=world,
        checkpoint=Checkpoint(work),
        on_row=on_row,
    )
    rows = train(objective, run)
    run.checkpoint.discard()
    return rows
