"""The folder of a version: weights in three formats, the index, the evidence, examples and the model card."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from discern.embedding.photos import INDEX, PhotoEncoder
from discern.errors import DataError, ModelError
from discern.images.packed import PackedSplit, evenly_spread
from discern.models.weights import load_encoder
from discern.params.pipeline import CONTINUE, OURS, Params
from discern.registry.card import card
from discern.registry.evidence import Evidence, write_checksums
from discern.registry.export import export
from discern.tracking import run_record
from discern.workspace import Workspace

EXAMPLES = 8  # test images with their features, by which a fresh process checks that the model still gives them
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Package:
    """A finished folder.

    Attributes:
        folder: everything that a version consists of.
        evidence: its figures and what they were taken on.
        checksum: SHA-256 of the list of all files' checksums.
    """

    folder: Path
    evidence: Evidence
    checksum: str


def package(params: Params, workspace: Workspace, method: str, seed: int, folder: Path) -> Package:
    """Build the folder of a version from what the pipeline made.

    Args:
        params: of the workspace.
        workspace: where encoder, evaluation and packed images lie; they must be up to date.
        method: which encoder.
        seed: of its training.
        folder: empty; where to write.

    Raises:
        ModelError: the encoder is missing, out of date, or cannot be exported.
        DataError: it was not evaluated, or the packed images are missing.
    """
    _up_to_date(workspace, list(stages(params, method, seed)))
    splits = {name: PackedSplit.load(workspace.packed(name)) for name in SPLITS}
    shutil.copytree(workspace.encoder(method, seed), folder / "encoder")
    photos = PhotoEncoder.load(folder)
    photos.index(workspace.packed("train"))
    assert photos.gallery is not None, "it was made just now"
    photos.gallery.save(folder / INDEX)
    serving = {"k": params.evaluate.knn.k, "temperature": params.evaluate.knn.temperature}
    (folder / "serving.json").write_text(json.dumps(serving, indent=2) + "\n", encoding="utf-8")
    images = splits["test"].images[evenly_spread(len(splits["test"].images), EXAMPLES)]
    features = export(load_encoder(folder / "encoder"), images, folder)
    np.savez(folder / "examples.npz", images=images, features=features)
    evidence = _evidence(params, workspace, method, seed, splits)
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "evidence.json").write_text(
        evidence.model_dump_json(indent=2) + "\n", encoding="utf-8"
    )
    shutil.copy(workspace.embeddings(method, seed) / "outcomes.parquet", folder / "evaluation")
    shutil.copy(workspace.params, folder)
    (folder / "README.md").write_text(card(params, workspace, evidence, folder / "encoder"), encoding="utf-8")
    return Package(folder, evidence, write_checksums(folder))


def _evidence(
    params: Params, workspace: Workspace, method: str, seed: int, splits: dict[str, PackedSplit]
) -> Evidence:
    path = workspace.metrics(method, seed)
    if not path.is_file():
        raise DataError(f"{path}: {method} is not evaluated for seed {seed}; run `dvc repro`")
    # Of the training itself, not of this command: code may have changed since.
    record = workspace.run_record(stages(params, method, seed)[0])
    origin = run_record.load(record).provenance if record.is_file() else {}
    return Evidence(
        method=method,
        seed=seed,
        splits={name: split.digest for name, split in splits.items()},
        protocol=params.evaluate.model_dump(mode="json"),
        figures=json.loads(path.read_text(encoding="utf-8")),
        commit=origin.get("git.commit", ""),
        dirty=origin.get("git.dirty") != "false",
    )


def stages(params: Params, method: str, seed: int) -> tuple[str, str]:
    """The stages that train and that evaluate one encoder.

    Raises:
        ModelError: params.yaml does not name the method.
    """
    if method not in params.methods.all:
        raise ModelError(f"{method} is not among the methods of params.yaml ({', '.join(params.methods.all)})")
    if method in (OURS, CONTINUE):
        return f"train_{'encoder' if method == OURS else CONTINUE}@{seed}", f"evaluate@{method}-{seed}"
    family = "control" if method in params.methods.controls else "method"
    return f"train_{family}@{method}-{seed}", f"evaluate_{family}@{method}-{seed}"


def _up_to_date(workspace: Workspace, names: list[str]) -> None:
    """Refuse results that are not those of the present parameters and code."""
    command = [sys.executable, "-m", "dvc", "status", "--json", *names]
    done = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ModelError(f"dvc status: {' '.join(done.stderr.split())}")
    if stale := json.loads(done.stdout or "{}"):
        raise ModelError(
            f"{', '.join(stale)}: out of date with params.yaml or code; run `dvc repro` (or `dvc checkout`) first"
        )
