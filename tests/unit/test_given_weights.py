"""Stages that start from given weights: what they keep and record of them, and what goes on from the base."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from discern.models.build import build_encoder
from discern.models.files import sha256
from discern.models.making import read_making
from discern.params.pipeline import Params
from discern.run.context import Context
from discern.stages import pretrain_decoder, train_continue, train_method
from discern.workspace import Workspace
from tests.methods import ENCODER
from tests.photos import pack


class Recorded:
    """Stands in for the Recorder."""

    def __init__(self) -> None:
        self.noted: dict[str, str] = {}

    def tags(self, values: dict[str, str]) -> None:
        self.noted |= values

    def metrics(self, values: dict[str, float], step: int | None = None) -> None:
        pass

    def artifact(self, path: Path, folder: str = "") -> None:
        assert path.exists()

    def dataset(self, name: str, frame: pd.DataFrame, digest: str, context: str) -> None:
        assert digest


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "given.pth"
    torch.save(build_encoder(ENCODER, 7).state_dict(), path)
    return path


@pytest.fixture
def small(params: Params, weights: Path) -> Params:
    """The project's parameters with a small network, few passes, and given weights."""
    base = params.base.model_copy(
        update={"encoder": ENCODER, "weights": str(weights), "batch_size": 4, "precision": "fp32"}
    )
    decoder = params.pretrain_decoder.model_copy(update={"passes": 2})
    encoder = params.train_encoder.model_copy(update={"passes": 2})
    return params.model_copy(update={"base": base, "pretrain_decoder": decoder, "train_encoder": encoder})


def test_every_encoder_says_what_it_started_from(
    small: Params, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCERN_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(tmp_path)
    pack(workspace.packed("train"), list(range(8)), [0, 1] * 4)
    for split in ("val", "test"):
        pack(workspace.packed(split), [8, 9], [0, 1])

    def stage(module: Any, method: str | None) -> dict[str, str]:
        record: Any = Recorded()
        module.run(Context(module.__name__.rpartition(".")[2], 0, method, small, workspace, record))
        noted: dict[str, str] = record.noted
        return noted

    given = {"weights": str(weights), "weights.labels": "unknown", "weights.sha256": sha256(weights)}
    none = {"weights": "none", "weights.labels": "no"}
    assert stage(pretrain_decoder, None).items() >= given.items()
    assert stage(train_continue, None).items() >= given.items()
    assert stage(train_method, "simclr").items() >= given.items()
    assert stage(train_method, "random_init").items() >= none.items()
    for folder in (workspace.base(0), workspace.encoder("continue", 0), workspace.encoder("simclr", 0)):
        assert read_making(folder).weights.tags().items() >= given.items()
        assert json.loads((folder / "encoder.json").read_text())["weights"]["source"] == "file"
    assert not read_making(workspace.encoder("random_init", 0)).weights.given
