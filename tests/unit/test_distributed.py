"""Two processes started by torchrun equal one on the joined batch, for every registered method."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from discern.errors import ParamsError
from discern.machine import shared_environment
from discern.models.batch_norm import SharedBatchNorm, synchronise
from discern.models.build import build_encoder
from discern.params.encoder import Timm
from discern.training.distributed import World
from tests.unit import shared_step

ROOT = Path(__file__).parents[2]


def torchrun(module: str, out: Path) -> None:
    """Run a module in two processes."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", module, str(out)]
    subprocess.run(command, cwd=ROOT, env=shared_environment(2), check=True, timeout=300)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    out = tmp_path_factory.mktemp("world") / "results.pt"
    torchrun("tests.unit.shared_step", out)
    results: dict[str, dict[str, Tensor]] = torch.load(out, weights_only=True)
    return results


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_over_one_process_is_torchs_own(training: bool) -> None:
    torch.manual_seed(0)
    own = torch.nn.Sequential(torch.nn.BatchNorm2d(5)).double().train(training)
    shared = copy.deepcopy(own)
    synchronise(shared, shared_step.CPU)
    assert isinstance(shared[0], SharedBatchNorm)
    x = (3 * torch.randn(4, 5, 6, 7, dtype=torch.float64) + 1).requires_grad_()
    direction = torch.randn_like(x)
    gradients = [torch.autograd.grad(norm(x), [x, *norm.parameters()], direction) for norm in (own, shared)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    assert own.state_dict().keys() == shared.state_dict().keys()
    for name, value in own.state_dict().items():
        torch.testing.assert_close(shared.state_dict()[name], value)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_that_activates_still_does_and_keeps_its_names(training: bool) -> None:
    """Timm's `BatchNormAct2d`, of which its efficientnets are made."""
    own = build_encoder(Timm(kind="timm", name="test_efficientnet"), 0).double().train(training)
    shared = copy.deepcopy(own)
    synchronise(shared, shared_step.CPU)
    replaced = [module for module in shared.modules() if isinstance(module, SharedBatchNorm)]
    assert any(isinstance(child, torch.nn.SiLU) for module in replaced for child in module.children())
    assert not any(type(module).__name__ == "BatchNormAct2d" for module in shared.modules())
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(shared(x), own(x))
    assert own.state_dict().keys() == shared.state_dict().keys()
    for name, value in own.state_dict().items():  # running statistics among them
        torch.testing.assert_close(shared.state_dict()[name], value)
    synchronise(shared, shared_step.CPU)  # a second time finds nothing to do
    assert replaced == [module for module in shared.modules() if isinstance(module, SharedBatchNorm)]


def test_a_batch_norm_that_does_something_of_its_own_is_refused() -> None:
    class Doubled(torch.nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    with pytest.raises(ParamsError, match=r"base.sync_batch_norm: it cannot replace this encoder's Doubled"):
        synchronise(torch.nn.Sequential(Doubled(3)), shared_step.CPU)


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


@pytest.mark.slow
def test_two_processes_stopped_between_two_rows_go_on_to_the_same_rows_and_weights(tmp_path: Path) -> None:
    torchrun("tests.unit.shared_run", tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert sorted(int(file.name[:10]) for file in (tmp_path / "stopped").iterdir()) == [10, 20]
    (expected, weights), (rows, _) = first["straight"], first["resumed"]
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 15, 18, 20]
    assert rows == expected
    for process in (first, second):
        assert process["message"] == "test: stopped after step 10 of 20"
        for name, value in weights.items():
            assert torch.equal(process["straight"][1][name], value), name
            assert torch.equal(process["resumed"][1][name], value), name
