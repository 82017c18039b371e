"""All of ours, and a method beside it, with encoders of timm: stage after stage in this process."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from discern.images.packed import PackedSplit
from discern.models.weights import load_encoder
from discern.params.load import load
from discern.run.context import Context
from discern.settings import settings
from discern.stages import (
    evaluate,
    pretrain_decoder,
    score_features,
    synthesize_pairs,
    train_encoder,
    train_method,
)
from discern.tracking import run_record
from discern.tracking.record import Recorder
from discern.workspace import Workspace
from tests.pipeline.conftest import ROOT, TINY, change_params

SIDE, CLASSES = 32, ["ant", "bee", "cat"]
STAGES: list[tuple[str, Callable[[Context], None], str | None]] = [
    ("pretrain_decoder", pretrain_decoder.run, None),
    ("score_features", score_features.run, None),
    ("synthesize_pairs", synthesize_pairs.run, None),
    ("train_encoder", train_encoder.run, None),
    ("train_method", train_method.run, "simclr"),
    ("evaluate", evaluate.run, "discern"),
    ("evaluate", evaluate.run, "simclr"),
]


def pack(workspace: Workspace, name: str, count: int, seed: int) -> None:
    """Images whose class is the colour of a quarter, under noise, and where that quarter is."""
    rng = np.random.default_rng(seed)
    labels, folder = np.arange(count) % 3, workspace.packed(name)
    images = rng.integers(0, 120, (count, SIDE, SIDE, 3), dtype=np.uint8)
    images[np.arange(count), :16, :16, labels] += 120
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    parts = np.zeros((count, SIDE, SIDE), bool)
    parts[:, :16, :16] = True
    np.save(folder / "parts.npy", parts)
    index = {
        "path": [f"{name}/{i}.png" for i in range(count)],
        "label": [CLASSES[label] for label in labels],
        "label_id": labels,
        "sha256": [f"{i:064x}" for i in range(count)],
    }
    pd.DataFrame(index).to_parquet(folder / "index.parquet")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Packed images, parameters of a tiny run and nothing else."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "methods", tmp_path / "methods", symlinks=True)
    (tmp_path / "src").symlink_to(ROOT / "src")
    for name in ("DISCERN_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("DISCERN_DEVICE", "cpu"), ("DISCERN_PROGRESS", "none")):
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    monkeypatch.chdir(tmp_path)
    workspace = Workspace(tmp_path)
    for name, count, seed in (("train", 48, 0), ("val", 12, 1), ("test", 24, 2)):
        pack(workspace, name, count, seed)
    (workspace.packed("train").parent / "classes.json").write_text(json.dumps(CLASSES))
    return workspace


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_ours_and_a_method_run_from_end_to_end(name: str, checkout: Workspace) -> None:
    encoder = {"kind": "timm", "name": name}
    change_params(checkout.root, {**TINY, "base.encoder": encoder, "base.precision": "fp32"})
    params = load(checkout.params)
    for stage, run, method in STAGES:
        record = Recorder(f"{stage}@{method}-0", checkout, tracking=False)
        run(Context(stage, 0, method, params, checkout, record))
        record.finish("FINISHED")
        assert run_record.load(checkout.run_record(f"{stage}@{method}-0")).precision == "fp32"
    dim = load_encoder(checkout.encoder("discern", 0)).dim
    scores = pd.read_parquet(checkout.scores(0) / "scores.parquet")
    assert len(scores) == dim
    assert 0 < scores["mask"].sum() < dim
    assert (scores["importance"] > 0).any()
    heat = np.load(checkout.scores(0) / "heat_maps.npy")
    assert heat.shape[1:] == (SIDE, SIDE)
    perturbed = np.load(checkout.pairs(0) / "perturbed.npy")
    assert perturbed.shape == (48, params.synthesize_pairs.copies, 16, 16, 3)
    for method in ("discern", "simclr"):
        figures = json.loads(checkout.metrics(method, 0).read_text(encoding="utf-8"))
        assert figures["probe"]["top1"] > 0.4  # of three classes
        assert figures["localisation"]
    assert PackedSplit.load(checkout.packed("train")).classes == CLASSES
