"""One Prefect server for all tests of the flows, and toy pipelines for them to run."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[[str, dict[str, Any]], Any]

ROOT = Path(__file__).parents[2]
# Settings of servers that the tests run against instead of files: tests/backends.py starts them.
BACKENDS: dict[str, str] = json.loads(os.environ.get("TEST_FLOWS", "{}"))

DVC_YAML = """
stages:
  draw:
    cmd: python draw.py
    deps: [draw.py]
    params: [dataset]
    outs: [images.txt, reports/runs/draw.json]
  train_encoder:
    matrix: {seed: "${methods.seeds}"}
    cmd: python train_encoder.py --seed ${item.seed}
    deps: [train_encoder.py, images.txt]
    params: [train_encoder]
    outs: ["model-${item.seed}.txt", "reports/runs/train_encoder@${item.seed}.json"]
"""

DRAW = """
import sys
from pathlib import Path
from discern.run.runner import execute

def run(ctx):
    Path("images.txt").write_text(f"{ctx.params.dataset.species} species")

sys.exit(execute("draw", run))
"""

# Trains for as long as WORK seconds and says so, as the real training does.
TRAIN = """
import os, sys, time
from pathlib import Path
from discern.run.runner import execute
from discern.training.progress import TrainingProgress

def run(ctx):
    Path("training.pid").write_text(str(os.getpid()))
    with TrainingProgress("toy", 10) as progress:
        for step in range(10):
            progress.update(step, 4 - step / 10, 5.54, 1200)
            time.sleep(float(os.environ.get("WORK", "0")) / 10)
    weight = ctx.params.train_encoder.pair_weight
    ctx.record.metrics({"loss": weight})
    Path(f"model-{ctx.seed}.txt").write_text(f"{Path('images.txt').read_text()} weight {weight}")

sys.exit(execute("train_encoder", run))
"""


@pytest.fixture(scope="session")
def prefect_env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of processes that talk to one running server."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": "1",
        **BACKENDS,
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=env, cwd=home, stdout=log, stderr=log)
        try:
            _wait_healthy(server, env["PREFECT_API_URL"], home / "server.log")
            yield env
        finally:
            end(server)


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process of Prefect's to end, and kill it if it does not: its workers and runners at times hang."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(ready: Callable[[], Any], seconds: float = 600) -> Any:
    """What `ready` says, once that is true; the default is patience with a slow machine."""
    deadline = time.monotonic() + seconds
    while not (answer := ready()):
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.5)
    return answer


def _wait_healthy(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"Prefect's server did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def ask(prefect_env: dict[str, str]) -> Ask:
    """Sends one request to the server."""

    def post(path: str, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(
            f"{prefect_env['PREFECT_API_URL']}/{path}", json.dumps(body).encode(), headers
        )
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:  # 503: its SQLite file is locked for the moment
                if error.code != 503 or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    return post


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory, prefect_env: dict[str, str]) -> Path:
    """A committed Git and DVC project of two stages; copy it, do not work in it."""
    root = tmp_path_factory.mktemp("toy") / "project"
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    shutil.copytree(ROOT / "methods", root / "methods", symlinks=True)
    files = {
        "dvc.yaml": DVC_YAML,
        "draw.py": DRAW,
        "train_encoder.py": TRAIN,
        ".gitignore": "/mlflow.db*\n/.discern/\n",
    }
    for name, text in files.items():
        (root / name).write_text(text.lstrip())
    for command in (
        ["git", "init", "-q", "-b", "main"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        ["git", "add", "."],
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "toy"],
    ):
        subprocess.run(command, cwd=root, env=prefect_env, check=True)
    return root


@pytest.fixture
def checkout(toy: Path, tmp_path: Path) -> Path:
    """A clone of the toy project."""
    shutil.copytree(toy, tmp_path / "project", symlinks=True)
    return tmp_path / "project"
