"""An encoder of the pipeline becomes a version, champion, and a server that answers."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient
from PIL import Image

from discern.embedding.features import extract
from discern.models.weights import load_encoder
from tests.pipeline.conftest import BACKENDS, change_params, environment, run_in, tracking_uri

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished project with one registered version."""
    root = tmp_path_factory.mktemp("registry") / "project"
    shutil.copytree(finished, root, symlinks=True)
    (root / "mlflow.db").unlink(missing_ok=True)  # its artifacts lie in the other folder
    run_in(root, "discern", "register")
    return root


def client(root: Path) -> MlflowClient:
    uri = tracking_uri(root)
    return MlflowClient(uri, uri)


def artifacts(root: Path, name: str = "discern") -> Path:
    mlflow.set_tracking_uri(tracking_uri(root))
    return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=str(root.parent / name)))


def test_a_version_says_what_it_is(project: Path) -> None:
    version = client(project).get_model_version("discern", "1")
    figures = json.loads((project / "metrics" / "methods" / "discern" / "0.json").read_text())
    commit = json.loads((project / "reports" / "runs" / "train_encoder@0.json").read_text())["provenance"]
    assert version.tags["git.commit"] == commit["git.commit"]
    assert version.tags["git.dirty"] == "false"
    assert version.description is not None
    assert f"| Linear probe | {100 * figures['probe']['top1']:.1f} % |" in version.description
    for fact in ("24 test", "Apache-2.0", "## Limits"):
        assert fact in version.description
    content = artifacts(project)
    pins = (content / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in pins if line.strip())
    assert any(line.startswith("torch==") for line in pins)
    assert (content / "data" / "encoder" / "params.yaml").read_text() == (project / "params.yaml").read_text()
    loss = (content / "data" / "encoder" / "methods" / "simclr.yaml").read_text()
    assert loss == (project / "methods" / "simclr.yaml").read_text()
    names = {path.name for path in content.rglob("*") if path.is_file()}
    assert {"encoder.safetensors", "encoder.pt2", "encoder.onnx", "index.npz", "README.md"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]


def test_results_that_are_out_of_date_are_not_registered(project: Path, tmp_path: Path) -> None:
    root = tmp_path / "stale"
    shutil.copytree(project, root, symlinks=True)
    change_params(root, {"train_encoder.pair_weight": 7})
    done = run_in(root, "discern", "register", check=False)
    assert done.returncode == 2
    assert "train_encoder@0" in done.stderr
    assert "out of date" in done.stderr
    done = run_in(root, "discern", "register", "--method", "nobody", check=False)
    assert done.returncode == 2
    assert "nobody is not among the methods" in done.stderr


def test_the_champion_is_served(project: Path) -> None:
    promoted = run_in(project, "discern", "promote", "1", "--reason", "the first")
    assert "version 1 is champion" in promoted.stdout
    assert "8 examples give the features of registration" in " ".join(promoted.stdout.split())
    again = run_in(project, "discern", "promote", "1", "--reason", "again", check=False)
    assert again.returncode == 2
    assert "champion already" in again.stderr
    listed = run_in(project, "discern", "versions").stdout
    assert "champion" in listed
    assert "the first" in listed
    images = np.load(project / "data" / "packed" / "test" / "images.npy", mmap_mode="r")[:2]
    encoder = load_encoder(project / "models" / "encoders" / "discern" / "0")
    expected = extract(encoder, images, torch.device("cpu"), 2, "fp32")
    for url in serving(project):
        answer = ask(url, [base64.b64encode(png(image)).decode() for image in images])
        found = np.array([row["embedding"] for row in answer["predictions"]])
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
        assert {"label", "score", "neighbours", "similarities"} <= answer["predictions"][0].keys()
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(url, ["AAAA"])


@pytest.mark.skipif(bool(BACKENDS), reason="changes a file of MLflow's local store")
def test_a_tampered_version_is_not_promoted(project: Path, tmp_path: Path) -> None:
    run_in(project, "discern", "register", "--method", "simclr", "--name", "other")
    (index,) = (
        path
        for path in (project / "mlartifacts" / "models").glob("*/artifacts/data/*/index.npz")
        if "simclr" in (path.parent / "evaluation" / "evidence.json").read_text()
    )
    index.write_bytes(index.read_bytes() + b"more")
    done = run_in(project, "discern", "promote", "1", "--name", "other", "--reason", "it is so good", check=False)
    assert done.returncode == 2
    assert "index.npz was changed" in " ".join(done.stderr.split())
    assert not client(project).get_model_version("other", "1").aliases


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def ask(url: str, pictures: list[str]) -> Any:
    body = {"dataframe_split": {"columns": ["image"], "data": [[picture] for picture in pictures]}}
    request = urllib.request.Request(
        f"{url}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def serving(root: Path) -> Iterator[str]:
    """The address of a server of the champion, which ends with the loop."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", "models:/discern@champion", "--env-manager", "local"]
    env = environment(root) | {"MLFLOW_TRACKING_URI": tracking_uri(root)}
    with (root / "serve.log").open("w") as log:
        server = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)], cwd=root, env=env, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline and server.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail((root / "serve.log").read_text()[-3000:])
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
