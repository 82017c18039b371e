"""Two processes started by torchrun equal one on the joined batch, for every registered method."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from discern.machine import shared_environment
from discern.ssl import methods
from discern.training.distributed import World
from tests.methods import METHODS
from tests.unit import shared_step

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    out = tmp_path_factory.mktemp("world") / "results.pt"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "tests.unit.shared_step", str(out)]
    subprocess.run(command, cwd=ROOT, env=shared_environment(2), check=True, timeout=300)
    results: dict[str, dict[str, Tensor]] = torch.load(out, weights_only=True)
    return results


def test_every_registered_method_is_tested_here() -> None:
    assert set(METHODS) == set(methods())


@pytest.mark.slow
@pytest.mark.parametrize("case", shared_step.CASES)
def test_two_processes_equal_one_on_the_joined_batch(case: str, together: dict[str, dict[str, Tensor]]) -> None:
    alone = shared_step.two_steps(case, World(shared_step.CPU))
    assert alone.keys() == together[case].keys()
    for name, value in alone.items():
        torch.testing.assert_close(together[case][name], value, atol=1e-10, rtol=1e-10, msg=f"{case}: {name}")


@pytest.mark.slow
def test_the_comparison_would_see_a_gradient_that_is_not_gathered(
    together: dict[str, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = shared_step.two_steps("simclr", World(shared_step.CPU))
    monkeypatch.setattr(shared_step, "BATCH", shared_step.BATCH // 2)  # half the negatives
    half = shared_step.two_steps("simclr", World(shared_step.CPU))
    assert (half["encoder.conv1.weight"] - alone["encoder.conv1.weight"]).abs().max() > 1e-4
