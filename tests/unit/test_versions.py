"""Versions as `discern register` packs them: served, loaded by name, and what they say of themselves."""

import ast
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import discern
from discern.embedding.gallery import Gallery
from discern.embedding.photos import PhotoEncoder
from discern.errors import ModelError, RegistryError
from discern.models.making import Making
from discern.models.origin import Origin
from discern.params.pipeline import Params
from discern.registry import package as package_module
from discern.registry.card import card
from discern.registry.evidence import Evidence, write_checksums
from discern.registry.serving import Recogniser
from discern.settings import settings
from discern.tracking.run_record import RunRecord
from discern.workspace import Workspace
from tests.photos import MAKING, SIZE, pack, picture, save

ROOT = Path(__file__).parents[2]


@pytest.fixture
def packed_version(tmp_path: Path) -> Path:
    """What `discern register` packs, as far as serving reads it, in MLflow's layout."""
    data = tmp_path / "version" / "data" / "any"
    save(data / "encoder")
    photos = PhotoEncoder.load(data / "encoder")
    photos.index([picture(seed) for seed in range(4)])
    assert photos.gallery is not None
    known = Gallery(photos.gallery.features, photos.gallery.names, np.array(["wren", "wren", "crow", ""]))
    known.save(data / "index.npz")
    (data / "serving.json").write_text(json.dumps({"k": 2, "temperature": 0.07}))
    write_checksums(data)
    return tmp_path / "version"


def test_a_served_version_gives_the_features_of_the_encoder(encoder: PhotoEncoder, packed_version: Path) -> None:
    served = Recogniser(packed_version / "data" / "any")
    contents = []
    for seed in (2, 3):
        buffer = io.BytesIO()
        Image.fromarray(picture(seed)).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    answer = served.predict(pd.DataFrame({"image": contents}), {"neighbours": 3})
    assert answer.columns.tolist() == ["embedding", "label", "score", "neighbours", "similarities"]
    expected = encoder.embed([picture(2), picture(3)]).features
    np.testing.assert_allclose(np.array(answer["embedding"].tolist()), expected, rtol=1e-4, atol=1e-5)
    assert [len(row) for row in answer["neighbours"]] == [3, 3]
    assert [row[0] for row in answer["neighbours"]] == ["2", "3"], "those without a label are neighbours as well"
    assert answer["label"][0] == "crow"
    loaded = discern.load(packed_version / "data" / "any")
    (found,) = loaded.neighbours(contents[0], count=3)
    assert [one.name for one in found] == answer["neighbours"][0]
    assert [one.similarity for one in found] == pytest.approx(answer["similarities"][0])


def register(root: Path, version: Path) -> str:
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{root / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    client.create_registered_model("birds")
    client.create_model_version("birds", str(version))
    client.set_registered_model_alias("birds", "champion", "1")
    return uri


@pytest.mark.parametrize("setting", ["DISCERN_TRACKING_URI", "MLFLOW_TRACKING_URI", "mlflow.db"])
def test_a_version_is_loaded_by_name_from_wherever_it_is_said_to_be(
    encoder: PhotoEncoder, packed_version: Path, monkeypatch: pytest.MonkeyPatch, setting: str, tmp_path: Path
) -> None:
    import mlflow

    root = Path.cwd() if setting == "mlflow.db" else tmp_path / "elsewhere"
    root.mkdir(exist_ok=True)
    uri = register(root, packed_version)
    settings.cache_clear()
    if setting != "mlflow.db":
        with pytest.raises(RegistryError, match="set DISCERN_TRACKING_URI"):
            discern.load("models:/birds@champion")
        monkeypatch.setenv(setting, uri)
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    for name in ("models:/birds@champion", "models:/birds/1"):
        loaded = discern.load(name)
        np.testing.assert_allclose(
            loaded.embed(picture(1)).features, encoder.embed(picture(1)).features, atol=1e-5
        )
        assert loaded.neighbours(picture(1), count=1)[0][0].name == "1"
        assert loaded.making == MAKING
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == before
    for wrong in ("models:/birds/9", "models:/birds@nobody", "models:/bees/1", "models:birds"):
        with pytest.raises(RegistryError, match=f"^{wrong}: ") as caught:
            discern.load(wrong)
        assert "\n" not in str(caught.value)


def test_a_version_of_something_else_is_refused_by_its_name(
    encoder: PhotoEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "MLmodel").write_text("flavors: {}\n")
    monkeypatch.setenv("DISCERN_TRACKING_URI", register(tmp_path, other))
    with pytest.raises(ModelError, match=r"^models:/birds/1: was not made by `discern register`"):
        discern.load("models:/birds/1")


def test_everything_that_serving_imports_is_pinned_with_a_version() -> None:
    """A server may have an environment of its own, with what the version names and nothing else."""
    from discern.registry.store import REQUIREMENTS

    code = "import sys, discern.registry.serving\n"
    code += "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('discern.')), sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    files = [Path(line) for line in done.stdout.splitlines()]
    assert len(files) > 20
    imported = {name.partition(".")[0] for file in files for name in imports(file)}
    outside = imported - set(sys.stdlib_module_names) - {"discern"}
    of = packages_distributions()
    assert {"torch", "pandas", "PIL"} <= outside
    assert {"timm", "torchvision"} <= set(REQUIREMENTS)  # imported with the encoder, when it is wanted
    assert {name for name in outside if not set(of[name]) & set(REQUIREMENTS)} <= {"lightning_fabric"}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)


# What a version says of itself.


def evidence(method: str = "simclr") -> Evidence:
    return Evidence(method=method, seed=0, splits={}, protocol={}, figures={}, commit="", dirty=False)


def test_the_card_says_what_stands_beside_the_weights(params: Params, tmp_path: Path) -> None:
    """Parameters may have changed since: the encoder's own file counts."""
    assert (params.pack.image_size, params.pack.resize) == (64, "crop")
    text = card(params, Workspace(tmp_path), evidence(), save(tmp_path / "encoder"))
    for line in (
        "- resnet18: width 8, stem small_images; 64 features",
        "- images of 16 px, made square by `pad`",
        "- Weights: none",
        "- the method's parameters: simclr: temperature 0.3",
        "- 56 encoder passes per training image",
    ):
        assert line in text.splitlines()
    assert "The method: SimCLR: NT-Xent between two views" in text
    given = Origin("timm/vit_small.dino", "hub", "c0ffee", "5a", "apache-2.0", "no")
    floor = Making(SIZE, method="frozen", description={"kind": "frozen"}, weights=given)
    text = card(params, Workspace(tmp_path), evidence("frozen"), save(tmp_path / "floor", floor))
    line = "- Weights: `timm/vit_small.dino`, revision c0ffee, licence apache-2.0, saw labels: no"
    assert line in text.splitlines()
    assert "its own training saw labels" not in text
    assert "passes per training image" not in text
    supervised = Making(SIZE, method="supervised", description={"kind": "supervised"}, weights=given)
    text = card(params, Workspace(tmp_path), evidence("supervised"), save(tmp_path / "labelled", supervised))
    assert "- its own training saw labels" in text.splitlines()


@pytest.mark.parametrize(
    ("method", "description", "cost", "parameters"),
    [
        ("discern", {"kind": "discern", "copies": 4, "loss": {"kind": "simclr", "rate": 1.0}},
         ["pretrain_decoder@0", "synthesize_pairs@0", "train_encoder@0"],
         "discern: copies 4, loss (simclr: rate 1.0)"),
        ("continue", {"kind": "continue"}, ["pretrain_decoder@0", "train_continue@0"], "continue"),
        ("random_dims", {"kind": "control", "dims": "random"},
         ["pretrain_decoder@0", "synthesize_pairs@0", "train_control@random_dims-0"], "control: dims random"),
        ("moco", {"kind": "moco"}, ["train_method@moco-0"], "moco"),
    ],
)  # fmt: skip
def test_the_card_counts_the_stages_that_made_the_encoder_and_no_others(
    params: Params, tmp_path: Path, method: str, description: dict[str, Any], cost: list[str], parameters: str
) -> None:
    workspace = Workspace(tmp_path)
    stages = (
        "pack", "pretrain_decoder@0", "pretrain_decoder@1", "synthesize_pairs@0", "train_encoder@0",
        "train_continue@0", "train_control@random_dims-0", "train_method@moco-0", "train_method@small_moco-0",
        "evaluate@discern-0", "evaluate_method@moco-0",
    )  # fmt: skip
    for stage in stages:
        RunRecord(
            stage, "", None, None, "", "off", "", {}, None, "", "1 CPU core", 1, {}, "2026-01-01", 60.0, 1.0, {}
        ).save(workspace.run_record(stage))
    folder = save(tmp_path / "encoder", Making(SIZE, method=method, description=description))
    lines = card(params, workspace, evidence(method), folder).splitlines()
    section = lines[lines.index("## Cost") + 1 : lines.index("## Limits")]
    assert [line[2:].partition(": ")[0] for line in section if "1 CPU core" in line] == cost
    assert f"- the method's parameters: {parameters}" in lines


def test_a_package_holds_an_index_of_all_training_images(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    trained = save(workspace.encoder("simclr", 0))
    pack(workspace.packed("train"), [0, 1, 2, 3], [0, 1, -1, 1])
    for split in ("val", "test"):
        pack(workspace.packed(split), [4, 5], [0, 1])
    workspace.metrics("simclr", 0).parent.mkdir(parents=True)
    workspace.metrics("simclr", 0).write_text('{"probe": {"top1": 0.5}}')
    workspace.embeddings("simclr", 0).mkdir(parents=True)
    pd.DataFrame({"path": ["4.png", "5.png"]}).to_parquet(workspace.embeddings("simclr", 0) / "outcomes.parquet")
    workspace.params.write_text("")
    shutil.copytree(ROOT / "methods", tmp_path / "methods", symlinks=True)
    monkeypatch.setattr(package_module, "_up_to_date", lambda workspace, names: None)
    monkeypatch.setattr(package_module, "export", lambda encoder, images, folder: np.zeros((2, 64), np.float32))
    made = package_module.package(params, workspace, "simclr", 0, tmp_path / "package")
    loaded, alone = discern.load(made.folder), discern.load(trained)
    assert loaded.gallery is not None
    assert loaded.gallery.names.tolist() == [f"{seed}.png" for seed in range(4)]
    assert loaded.gallery.labels.tolist() == ["crow", "wren", "", "wren"]
    found = alone.embed([picture(seed, SIZE, SIZE) for seed in range(4)]).features
    expected = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(loaded.gallery.features.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert Recogniser(made.folder).settings == {"k": 20, "temperature": 0.07}
