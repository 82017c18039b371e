"""Nothing leaves this machine, and no secret is written down."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.conftest import connections, environment

pytestmark = pytest.mark.slow

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "hunter2-of-the-store",
    "MLFLOW_TRACKING_PASSWORD": "hunter2-of-mlflow",
    "PREFECT_API_AUTH_STRING": "admin:hunter2-of-prefect",
}


def test_the_whole_pipeline_opens_no_connection(finished: Path) -> None:
    """Every process of `dvc repro` was guarded: dvc, stages, and the writers beside them."""
    assert connections(finished) == []


def test_the_guard_would_have_seen_one(tmp_path: Path) -> None:
    code = (
        "import socket, urllib.request\n"
        "for attempt in (lambda: urllib.request.urlopen('http://example.org'),\n"
        "                lambda: socket.create_connection(('192.0.2.1', 80), timeout=1)):\n"
        "    try: attempt()\n"
        "    except OSError: pass\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(tmp_path), check=True)
    assert connections(tmp_path) == ["example.org", "192.0.2.1"]


def test_secrets_of_the_environment_are_written_nowhere(finished: Path, tmp_path: Path) -> None:
    """One recorded stage, with MLflow answering and with a dead server whose address holds a password."""
    (tmp_path / "params.yaml").write_text((finished / "params.yaml").read_text())
    code = (
        "from pathlib import Path\n"
        "from discern.tracking.record import Recorder\n"
        "from discern.workspace import Workspace\n"
        "record = Recorder('train', Workspace(Path.cwd()), {'base': {'seed': 0}}, tracking=True)\n"
        "record.metrics({'loss': 1.0}, step=0)\n"
        "record.artifact(Path('params.yaml'))\n"
        "record.finish('FINISHED')\n"
    )
    said = ""
    for uri in (f"sqlite:///{tmp_path / 'mlflow.db'}", "http://me:hunter2-of-the-address@127.0.0.1:9"):
        env = environment(tmp_path) | SECRETS | {"DISCERN_TRACKING_URI": uri}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
        )
        said += done.stdout + done.stderr
    assert "hunter2" not in said
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "mlflow.db" for path in written)
    assert any(path.name == "messages.jsonl" for path in written)
    assert [path for path in written if b"hunter2" in path.read_bytes()] == []
