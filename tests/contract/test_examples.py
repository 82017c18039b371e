"""Examples and docs/python.md: every line of Python in them runs, outside the project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import discern
from discern.data.plumage import draw
from discern.embedding.gallery import Gallery
from discern.models.build import build_encoder
from discern.models.making import Making
from discern.models.weights import save_encoder
from discern.params.dataset import Plumage
from discern.params.encoder import ResNet
from discern.registry.evidence import write_checksums

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "train_on_a_folder.py"
DOCS = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", DOCS, flags=re.DOTALL)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """A folder that is no project, with a dozen drawn birds in photos/ and one beside it."""
    described = {"species": 6, "train_per_species": 2, "test_per_species": 1, "image_size": 32, "nuisance": 0.5}
    drawn = draw(Plumage.model_validate({"kind": "plumage", "seed": 0, **described}))
    (tmp_path / "photos").mkdir()
    for name, image in zip("abcdefghijkl", drawn.images, strict=False):
        Image.fromarray(image).save(tmp_path / "photos" / f"{name}.jpg", quality=95)
    Image.fromarray(drawn.images[12]).save(tmp_path / "query.jpg")
    return tmp_path


def python(folder: Path, *arguments: str) -> str:
    """What a fresh interpreter prints that starts in `folder`."""
    skipped = ("DISCERN_", "MLFLOW_", "DVC_ROOT")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(skipped)}
    environment["PYTHONPATH"] = str(ROOT / "src")
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_trains_on_a_folder_and_writes_an_encoder(birds: Path) -> None:
    assert EXAMPLE.read_text(encoding="utf-8").count("\n") <= 50
    said = python(birds, str(EXAMPLE), "photos", "out", "--passes", "24", "--size", "32", "--width", "8")
    lines = re.findall(r"step (\d+): loss (\d+\.\d+), chance (\d+\.\d+)", said)
    assert [int(step) for step, *_ in lines] == list(range(1, 13)), "24 passes, 2 a step, one batch a passage"
    # NT-Xent of 12 images by two views: each looks for its partner among 23.
    assert {chance for *_, chance in lines} == {f"{np.log(23):.3f}"}
    encoder = discern.load(birds / "out")
    assert (encoder.making.method, encoder.making.image_size) == ("simclr", 32)
    assert encoder.making.description["temperature"] == 0.2
    with np.load(birds / "out" / "features.npz", allow_pickle=False) as arrays:
        assert arrays["paths"].tolist() == [f"photos/{name}.jpg" for name in "abcdefghijkl"]
        again = encoder.embed(birds / "photos").features
        np.testing.assert_allclose(arrays["features"], again, rtol=1e-4, atol=1e-5)
    assert not (birds / "out" / "checkpoints").exists()


def test_the_example_needs_no_tool_of_the_pipeline(birds: Path) -> None:
    code = f"import sys, runpy; runpy.run_path({str(EXAMPLE)!r}); print(*sys.modules)"
    loaded = {name.partition(".")[0] for name in python(birds, "-c", code).split()}
    assert not loaded & {"dvc", "mlflow", "prefect", "great_expectations", "lightning_fabric"}


def test_every_line_of_the_python_page_runs(birds: Path) -> None:
    from mlflow.tracking import MlflowClient

    network = build_encoder(ResNet(kind="resnet18", width=8, stem="small_images"), seed=0)
    version = birds / "version" / "data" / "discern"
    for folder in (birds / "models" / "encoders" / "discern" / "0", version / "encoder"):
        save_encoder(folder, network, Making(32, method="discern", description={"kind": "discern"}))
    features = np.eye(12, network.dim, dtype=np.float32)
    Gallery.of(features, [f"{number}.png" for number in range(12)], ["crow", "wren"] * 6).save(
        version / "index.npz"
    )
    write_checksums(version)
    uri = f"sqlite:///{birds / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    client.create_registered_model("discern")
    client.create_model_version("discern", str(birds / "version"))
    client.set_registered_model_alias("discern", "champion", "1")

    assert len(BLOCKS) >= 6
    checks = (
        "assert found.features.shape == (12, encoder.dim) and not found.skipped\n"
        "assert encoder.embed(['photos/a.jpg', Image.open('photos/b.jpg')]).names == ['photos/a.jpg', '1']\n"
        "assert len(names) == 6 and all(name.endswith('.png') for name in names)\n"
    )
    said = python(birds, "-c", "\n".join([*BLOCKS, checks])).splitlines()
    assert said[0] == f"discern 32 {network.dim}"
    assert said[1] == f"12 (12, {network.dim}) {{}}"
    assert [re.fullmatch(r"\d\.\d{3} None photos/\w\.jpg", line) is not None for line in said[2:5]] == [True] * 3
    assert said[5].startswith("nowhere/encoder.json: no such file")
