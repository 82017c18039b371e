"""All of ours, and a method beside it, with encoders of timm: stage after stage in this process."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from discern.images.packed import PackedSplit
from discern.models.build import build_encoder
from discern.models.corrected import CorrectedEncoder
from discern.models.making import Making
from discern.models.side_by_side import SideBySideEncoder
from discern.models.weights import load_encoder, save_encoder
from discern.params.encoder import Timm
from discern.params.load import load
from discern.report.aggregate import summarise
from discern.report.worth import opening
from discern.run.context import Context
from discern.settings import settings
from discern.stages import (
    evaluate,
    pretrain_decoder,
    score_features,
    synthesize_pairs,
    train_continue,
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


@pytest.mark.slow
def test_from_given_weights_all_go_on_and_the_report_answers(checkout: Workspace) -> None:
    """Ours, its control, SimCLR and the frozen ways, beside what they started from; then the verdict."""
    encoder = Timm(kind="timm", name="test_efficientnet")
    given = build_encoder(encoder, seed=7)
    save_encoder(checkout.root / "given", given, Making(SIDE))
    adaptation = {"encoder_rate": 0.1, "side_by_side": True, "components": 8, "whitening": 0.5, "average": 0.5}
    change_params(
        checkout.root,
        {
            **TINY,
            "base.encoder": encoder.model_dump(),
            "base.precision": "fp32",
            "base.weights": "given/encoder.safetensors",
            **{f"base.adaptation.{name}": value for name, value in adaptation.items()},
            "methods.compared": ["simclr", "frozen", "frozen_corrected", "supervised"],
        },
    )
    params = load(checkout.params)
    methods = ("simclr", "frozen", "frozen_corrected", "supervised")
    stages: list[tuple[str, Callable[[Context], None], str | None]] = [
        *STAGES[:4],
        ("train_continue", train_continue.run, None),
        *(("train_method", train_method.run, method) for method in methods),
        *(("evaluate", evaluate.run, method) for method in ("discern", "continue", *methods)),
    ]
    for stage, run, method in stages:
        record = Recorder(f"{stage}@{method}-0" if method else f"{stage}@0", checkout, tracking=False)
        run(Context(stage, 0, method, params, checkout, record))
        record.finish("FINISHED")
    x = torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    expected = F.normalize(given.eval()(x))
    for method in ("discern", "continue", "simclr"):
        left = load_encoder(checkout.encoder(method, 0))
        assert isinstance(left, SideBySideEncoder)
        assert left.dim == 16  # two times eight components
        assert isinstance(left.start, CorrectedEncoder)
        assert isinstance(left.trained, CorrectedEncoder)
        torch.testing.assert_close(F.normalize(left.start.encoder(x)), expected)
        assert not torch.allclose(F.normalize(left.trained.encoder(x)), expected, atol=1e-4)
    assert load_encoder(checkout.encoder("supervised", 0)).dim == given.dim  # its classifier wants its features
    torch.testing.assert_close(F.normalize(load_encoder(checkout.encoder("frozen", 0))(x)), expected)

    found = summarise(params, checkout)
    assert found.worth is not None
    assert (found.worth.frozen, found.worth.seeds) == ("frozen", 1)
    assert found.worth.trained in ("discern", "continue", "simclr")
    assert set(found.worth.differences) == {"retrieval.rank1", "knn.top1", "probe.top1"}
    found.write(checkout.summary)
    head, *rest = opening(found, checkout)
    assert "Training on your photographs" in head or "training on your photographs" in head
    assert any("min of training" in line for line in rest)
