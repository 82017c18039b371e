"""A run of 20 steps, undisturbed and stopped after 10 of them, by the processes that torchrun started."""

import sys
from pathlib import Path

import numpy as np
import torch

from discern.errors import InterruptedStageError
from discern.params.load import load
from discern.training import loop
from discern.training.checkpoint import Checkpoint
from discern.training.distributed import World
from tests.methods import ENCODER
from tests.unit.test_training import CPU, contrastive, run

ROWS = 6  # every third step is logged, so the stop comes between two rows


def main(folder: Path) -> None:
    """Write what both runs came to in each process."""
    loop.LOGGED_POINTS = ROWS
    world, images = World(CPU), np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    base = load(Path(__file__).parents[2] / "params.yaml").base
    base = base.model_copy(update={"encoder": ENCODER, "batch_size": 8, "precision": "bf16"})

    straight, stopped, resumed = contrastive(), contrastive(), contrastive()
    expected = run(straight, base, images, folder / "straight", budget=16, world=world)
    told = 1 if world.rank > 0 else None  # another process than the one that saves
    try:
        run(stopped, base, images, folder / "stopped", budget=16, world=world, stop_after=told)
    except InterruptedStageError as error:
        message = str(error)
    often = Checkpoint(folder / "stopped", every_s=0)
    rows = run(resumed, base, images, folder, budget=16, world=world, checkpoint=often)
    runs = {"straight": (expected, straight.state_dict()), "resumed": (rows, resumed.state_dict())}
    torch.save({**runs, "message": message}, folder / f"{world.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
