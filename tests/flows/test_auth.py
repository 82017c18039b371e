"""Servers that ask for a password: what happens with it, without it, and where it must never stand."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "hunter2-of-the-servers"
FLOW = [sys.executable, "-m", "flows.pipeline", "--target", "draw"]
DRAW = [sys.executable, "-m", "dvc", "repro", "draw"]
Ask = Callable[[str, dict[str, Any]], Any]


@contextmanager
def server(command: list[str], env: dict[str, str], folder: Path, health: str) -> Iterator[str]:
    """Address of a server on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where, url = ["--host", "127.0.0.1", "--port", str(port)], f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, *where], cwd=folder, env=env, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 600
        while status(f"{url}{health}") is None:
            if time.monotonic() > deadline or process.poll() is not None:
                pytest.fail((folder / "server.log").read_text()[-3000:])
            time.sleep(0.3)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def status(url: str) -> int | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def run(command: list[str], folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=900, check=False)


def files_with_password(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]


def test_mlflow_with_a_password(checkout: Path, tmp_path: Path, prefect_env: dict[str, str]) -> None:
    """Without it the stage goes on and its record waits; with it the record is delivered."""
    home = tmp_path / "server"
    home.mkdir()
    (home / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///auth.db\nadmin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    secret = {"MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD, "MLFLOW_FLASK_SERVER_SECRET_KEY": PASSWORD[::-1]}
    env = prefect_env | secret | {"MLFLOW_AUTH_CONFIG_PATH": str(home / "auth.ini")}
    command = ["mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
    keep = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", str(home / "artifacts")]
    with server([*command, *keep], env, home, "/health") as url:
        search = "/api/2.0/mlflow/experiments/search?max_results=1"
        assert status(url + search) == 401
        quiet = prefect_env | {"DISCERN_TRACKING_URI": url}
        done = run(DRAW, checkout, quiet)
        assert done.returncode == 0, done.stderr
        assert "discern sync" in done.stderr
        assert len(list((checkout / ".discern" / "spool").iterdir())) == 1
        known = quiet | {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
        sync = [sys.executable, "-m", "discern", "sync"]
        delivered = run(sync, checkout, known)
        assert delivered.returncode == 0, delivered.stderr
        assert not list((checkout / ".discern" / "spool").iterdir())
        count = (
            "import mlflow; found = mlflow.search_runs(experiment_names=['discern']);"
            "print(sorted(found['tags.mlflow.runName'].astype(str)), set(found['status']))"
        )
        asked = subprocess.run(
            [sys.executable, "-c", count], env=known | {"MLFLOW_TRACKING_URI": url}, capture_output=True, text=True
        )
        assert "draw" in asked.stdout, asked.stderr
        assert "{'FINISHED'}" in asked.stdout
    assert files_with_password(checkout) == []


def test_prefect_with_a_password(checkout: Path, tmp_path: Path, prefect_env: dict[str, str]) -> None:
    """Without it no flow starts, in one line; with it the flow runs, and nobody else reads of it."""
    home = tmp_path / "server"
    home.mkdir()
    env = prefect_env | {"PREFECT_HOME": str(home), "PREFECT_SERVER_API_AUTH_STRING": f"admin:{PASSWORD}"}
    env.pop("PREFECT_API_URL")
    client = prefect_env | {"PREFECT_HOME": str(tmp_path / "client"), "DISCERN_TRACKING": "false"}
    with server(["prefect", "server", "start"], env, home, "/api/health") as url:
        assert status(f"{url}/api/admin/version") == 401
        client["PREFECT_API_URL"] = f"{url}/api"
        began = time.monotonic()
        done = run(FLOW, checkout, client)
        assert done.returncode == 1
        assert time.monotonic() - began < 60
        assert done.stderr.splitlines()[-1].startswith("discern: ERROR Prefect's server"), done.stderr[-2000:]
        assert not (checkout / "images.txt").exists()
        known = client | {"PREFECT_API_AUTH_STRING": f"admin:{PASSWORD}"}
        done = run(FLOW, checkout, known)
        assert done.returncode == 0, done.stderr[-2000:]
        assert (checkout / "images.txt").exists()
        assert PASSWORD not in done.stdout + done.stderr
    assert files_with_password(checkout) == []
