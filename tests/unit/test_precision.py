"""What bf16 comes to: bfloat16 where the device has instructions for it, float32 where it would be emulated."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from discern.embedding.features import extract
from discern.evaluation import finetune
from discern.models.encoder import ImageEncoder
from discern.params.encoder import RawPixels
from discern.params.pipeline import Params
from discern.run.context import Context
from discern.settings import settings
from discern.tracking.record import Recorder
from discern.training import device
from discern.training.distributed import World
from discern.training.step import TrainingStep
from discern.workspace import Workspace
from tests.methods import objective

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Seen(ImageEncoder):
    """Keeps the types that a product comes out in."""

    def __init__(self) -> None:
        super().__init__()
        self.params, self.dim = RawPixels(kind="raw_pixels", side=1), 4
        self.layer = torch.nn.Conv2d(3, 4, 1)
        self.types: set[torch.dtype] = set()

    def feature_map(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        self.types.add(y.dtype)
        return y


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def plain_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor without instructions for bfloat16, and nobody who asks for emulation."""
    monkeypatch.setenv("DISCERN_EMULATE_BF16", "false")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": False})
    settings.cache_clear()
    device._say_float32.cache_clear()
    yield
    device._say_float32.cache_clear()


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16", "sve_bf16"])
def test_a_processor_with_instructions_computes_bfloat16(
    name: str, plain_processor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert device.effective_precision(CPU, "bf16") == "fp32"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: True})
    assert device.effective_precision(CPU, "bf16") == "bf16"
    assert device.effective_precision(CPU, "fp32") == "fp32"


def test_torch_tells_what_this_processor_has() -> None:
    assert isinstance(device.computes_bfloat16(), bool)
    assert torch.cpu.get_capabilities()["architecture"]


def test_a_gpu_is_not_asked(plain_processor: None) -> None:
    assert device.effective_precision(CUDA, "bf16") == "bf16"


def test_one_line_says_so_once(plain_processor: None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert device.effective_precision(CPU, "fp32") == "fp32"
        assert not caplog.messages
        for _ in range(3):
            assert not device.autocast(CPU, "bf16")._enabled
    assert caplog.messages == [
        "this processor has no instructions for bfloat16: base.precision = bf16 is computed in float32"
    ]


@pytest.mark.parametrize("emulated", [True, False])
def test_training_evaluation_and_features_agree(
    emulated: bool, seen: Seen, params: Params, plain_processor: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCERN_EMULATE_BF16", str(emulated))
    settings.cache_clear()
    base = params.base.model_copy(update={"precision": "bf16", "batch_size": 8})
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
    wanted = torch.bfloat16 if emulated else torch.float32
    step = TrainingStep(objective("simclr", 20), base, 16, 0, 8, World(CPU))
    view = step.augment(torch.from_numpy(images[:8]).permute(0, 3, 1, 2), torch.arange(8), 0, 0)
    assert view.dtype == wanted
    extract(seen, images, CPU, 4, "bf16")
    assert seen.types == {wanted}
    tuning = params.evaluate.finetune.model_copy(update={"layers": "all", "epochs": 1, "batch_size": 6})
    labels = np.arange(12) % 2
    finetune.fit(seen, seen, torch.nn.Linear(4, 2), images, np.arange(12), labels, tuning, base, CPU)
    assert seen.types == {wanted}


def test_the_record_of_a_stage_keeps_what_it_computed_in(
    params: Params, plain_processor: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCERN_DEVICE", "cpu")
    settings.cache_clear()
    workspace = Workspace(tmp_path)
    record = Recorder("evaluate@simclr-0", workspace, tracking=False)
    ctx = Context("evaluate", 0, "simclr", params, workspace, record)
    assert params.base.precision == "bf16"
    assert record.precision == ""
    assert ctx.device == CPU
    assert record.precision == "fp32"
