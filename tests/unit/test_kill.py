"""Training that is really killed, again and again at any moment, ends where an undisturbed run ends."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from discern.params.load import load
from discern.training.checkpoint import Checkpoint
from discern.training.objective import Objective
from tests.methods import ENCODER
from tests.unit import test_training as training

# A process that has imported torch and computed nothing yet, to be forked for every run: an import takes longer.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.unit.test_training"])
BUDGET = 120  # encoder passes


def train_to_the_end(build: Callable[[], Objective], folder: Path) -> None:
    torch.set_num_threads(1)
    base = load(Path(__file__).parents[2] / "params.yaml").base
    base = base.model_copy(update={"encoder": ENCODER, "batch_size": 8})
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    objective = build()
    checkpoint = Checkpoint(
        folder, every_s=0.0
    )  # one after every step, so that kills meet many of them half written
    rows = training.run(objective, base, images, folder, BUDGET, checkpoint=checkpoint)
    torch.save({"weights": objective.state_dict(), "rows": rows}, folder / "partial")
    (folder / "partial").rename(folder / "result")


@pytest.mark.slow
@pytest.mark.parametrize("build", [training.momentum, training.online_pairs], ids=lambda b: b.__name__)
def test_killed_again_and_again_it_ends_bit_equal(build: Callable[[], Objective], tmp_path: Path) -> None:
    straight = SERVER.Process(target=train_to_the_end, args=(build, tmp_path / "straight"))
    (tmp_path / "straight").mkdir()
    straight.start()
    straight.join(120)
    assert straight.exitcode == 0

    folder, moments = tmp_path / "killed", np.random.default_rng(0)
    steps: list[int] = []
    for _ in range(6):
        process = SERVER.Process(target=train_to_the_end, args=(build, folder))
        process.start()
        deadline, before = time.monotonic() + 60, steps[-1] if steps else 0
        while not reached(folder) > before and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(float(moments.uniform(0, 0.2)))
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was faster
            break
        steps.append(reached(folder))
    assert len(steps) >= 3
    assert steps == sorted(set(steps)), "every life went on from the one before"
    last = SERVER.Process(target=train_to_the_end, args=(build, folder))
    last.start()
    last.join(120)
    assert last.exitcode == 0

    expected, found = (torch.load(tmp_path / name / "result") for name in ("straight", "killed"))
    assert found["rows"] == expected["rows"]
    for name, value in expected["weights"].items():
        assert torch.equal(found["weights"][name], value), name


def reached(folder: Path) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    return max((int(file.name.partition("-")[0]) for file in folder.glob("0*-*.pt")), default=0)
