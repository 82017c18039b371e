"""A project like this one, at the smallest size that runs every stage."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
Run = Callable[..., subprocess.CompletedProcess[str]]

TINY: dict[str, Any] = {
    "dataset.species": 4,
    "dataset.train_per_species": 14,
    "dataset.test_per_species": 6,
    "dataset.image_size": 32,
    "pack.image_size": 32,
    "base.batch_size": 16,
    "base.encoder": {"kind": "resnet18", "width": 8, "stem": "half"},
    "pretrain_decoder.passes": 6,
    "pretrain_decoder.decoder": {"width": 16, "resolution": 16},
    "train_encoder.passes": 4,
    "evaluate.bootstrap": {"samples": 100, "seed": 0},
    "evaluate.fractions": {"shares": [0.5], "subsets": 2, "seed": 0},
    "evaluate.mlp.epochs": 5,
}

# Settings of servers that the tests run against instead of files: tests/backends.py starts them.
BACKENDS: dict[str, str] = json.loads(os.environ.get("TEST_BACKENDS", "{}"))

CONNECTIONS = ".discern-connections"


def connections(root: Path) -> list[str]:
    """Hosts beyond this machine that a process of a project tried to reach."""
    log = root / CONNECTIONS
    return log.read_text().splitlines() if log.is_file() else []


def environment(root: Path) -> dict[str, str]:
    """One thread, no connection, and nothing written outside the project."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DISCERN_", "DVC_", "MLFLOW_", "PREFECT_"))}
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "DISCERN_THREADS": "1",
        "DISCERN_EXPERIMENT": experiment(root),
        # This checkout's code, whichever is installed.
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).with_name("guard")), str(ROOT / "src")]),
        "TEST_CONNECTIONS_LOG": str(root / CONNECTIONS),
        "OMP_WAIT_POLICY": "PASSIVE",
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(root / ".discern" / "dvc"),
        "PREFECT_HOME": str(root / ".prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **BACKENDS,
    }


def experiment(root: Path) -> str:
    """A name for a project's records, of its own on a server that several projects share."""
    return f"project-{hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:8]}"


def tracking_uri(root: Path) -> str:
    """Where a project's records are."""
    return BACKENDS.get("DISCERN_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")


def change_params(root: Path, changes: dict[str, Any]) -> None:
    """Set dotted keys of a project's params.yaml."""
    yaml = YAML()
    path = root / "params.yaml"
    raw = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *parents, last = key.split(".")
        node = raw
        for parent in parents:
            node = node[parent]
        node[last] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(raw, file)


def make_project(root: Path, changes: dict[str, Any]) -> Path:
    """A Git and DVC repository with this project's code and graph, and parameters of its own."""
    root.mkdir(parents=True)
    for name in ("src", "flows"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(ROOT / "methods", root / "methods", symlinks=True)
    for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, root / name)
    (root / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(ROOT / ".dvc" / name, root / ".dvc" / name)
    change_params(root, {**TINY, **changes})
    for command in (
        ["git", "init", "-q", "-b", "main"],
        ["git", "config", "user.name", "Tester"],
        ["git", "config", "user.email", "tester@localhost"],
    ):
        subprocess.run(command, cwd=root, check=True)
    commit(root, "start")
    return root


def commit(root: Path, message: str) -> None:
    """Commit everything of a project."""
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    subprocess.run(["git", "commit", "-q", "-m", message], cwd=root, check=True)


def run_in(
    root: Path, *command: str, check: bool = True, extra: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a project; `python` and `dvc` are those of this environment."""
    done = subprocess.run(
        command,
        cwd=root,
        env=environment(root) | (extra or {}),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project after `dvc repro`, committed; tests that change it work on their own copy."""
    root = make_project(tmp_path_factory.mktemp("pipeline") / "project", {})
    run_in(root, "dvc", "repro")
    commit(root, "results")
    return root
