"""What `discern doctor` says about a checkout, sound and after accidents."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from discern.doctor import Finding, examine
from discern.settings import settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    shutil.copytree(ROOT / "methods", tmp_path / "methods", symlinks=True)
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "DISCERN_TRACKING_URI", "DISCERN_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def about(root: Path, what: str) -> Finding:
    (found,) = [finding for finding in examine(root) if finding.what == what]
    return found


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_sound_checkout_is_good(root: Path) -> None:
    assert {finding.state for finding in examine(root)} == {"good"}


def test_wrong_parameters_and_settings_are_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("image_size: 64", "image_size: 0"))
    found = about(root, "parameters and settings")
    assert found.state == "bad"
    assert "pack.image_size" in found.detail
    (root / "params.yaml").write_text(text)
    (root / "methods" / "moco.yaml").write_text("kind: mocha\n")  # which nobody trains yet
    found = about(root, "parameters and settings")
    assert found.state == "bad"
    assert "methods/moco.yaml" in found.detail
    shutil.copy(ROOT / "methods" / "moco.yaml", root / "methods")
    monkeypatch.setenv("DISCERN_DEVICE", "toaster")
    settings.cache_clear()
    assert "DISCERN_DEVICE" in about(root, "parameters and settings").detail


def test_a_library_of_another_version_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.version
    changed = {"fastapi": "0.155.0"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: changed.get(name) or installed(name))
    found = about(root, "libraries")
    assert found.state == "bad"
    assert "fastapi 0.155.0 is not <0.151" in found.detail


def test_a_full_disk_is_bad(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
    assert about(root, "disk").state == "bad"


def test_a_server_that_does_not_answer_is_told_without_its_password(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCERN_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    settings.cache_clear()
    found = about(root, "MLflow")
    assert found.state == "note"
    assert "127.0.0.1:9 does not answer" in found.detail
    assert "hunter2" not in found.detail


def test_locks_of_the_dead_and_of_the_living(root: Path) -> None:
    (root / ".dvc" / "tmp").mkdir(parents=True)
    lock = root / ".dvc" / "tmp" / "rwlock"
    lock.write_text(json.dumps({"data/raw": {"write": {"pid": dead_pid(), "cmd": "dvc repro"}}}))
    assert "which is gone" in about(root, "DVC's locks").detail
    lock.write_text(json.dumps({"data/raw": {"read": [{"pid": os.getpid(), "cmd": "dvc pull"}]}}))
    assert f"held by process {os.getpid()} (dvc pull)" in about(root, "DVC's locks").detail
    lock.write_text("{")
    assert about(root, "DVC's locks").state == "bad"


def test_an_orphan_is_found_with_its_arguments(root: Path) -> None:
    """A process that looks like a stage; its parent is this test, not dvc."""
    code = "import time; time.sleep(60)"
    words = [sys.executable, "-c", code, "discern.run", "train_method", "--method", "moco", "--seed", "1"]
    process = subprocess.Popen(words, cwd=root)
    try:
        time.sleep(0.3)
        found = about(root, "running stages")
    finally:
        process.kill()
        process.wait()
    assert found.state == "bad"
    assert f"train_method --method moco --seed 1 runs as process {process.pid}" in found.detail
    assert f"kill {process.pid}" in found.detail
    assert about(root, "running stages").state == "good"


def test_a_rotten_file_in_the_cache_is_found(root: Path) -> None:
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=root, check=True)
    (root / "birds.txt").write_text("a wren")
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "birds.txt"], cwd=root, check=True)
    assert [f.state for f in examine(root, deep=True) if f.what == "DVC's cache"] == ["good"]
    (kept,) = (root / ".dvc" / "cache" / "files" / "md5").glob("??/*")
    kept.chmod(0o644)
    kept.write_text("a crow")
    kept.chmod(0o444)
    (found,) = [f for f in examine(root, deep=True) if f.what == "DVC's cache"]
    assert found.state == "bad"
    assert kept.name in found.detail
    (root / "dvc.lock").write_text(f"stages:\n  draw:\n    outs:\n    - {{path: wren.txt, md5: {digest(kept)}}}\n")
    (found,) = [f for f in examine(root, deep=True) if f.what == "DVC's cache"]
    assert f"{kept} is damaged: delete it and wren.txt, then" in found.detail


def digest(kept: Path) -> str:
    return kept.parent.name + kept.name


def test_what_interrupted_runs_left(root: Path) -> None:
    work = root / ".discern" / "work" / "train_encoder@0-0123456789abcdef"
    work.mkdir(parents=True)
    (work / "00000120-aaaa.pt").write_bytes(b"x")
    (work / "00000240-bbbb.pt").write_bytes(b"x")
    (root / ".discern" / "spool" / "record").mkdir(parents=True)
    (root / "models").mkdir()
    (root / "models" / ".base.partial").mkdir()
    (root / ".prefect").mkdir()
    (root / ".prefect" / "server.pid").write_text(str(dead_pid()))
    assert "train_encoder@0 at step 240" in about(root, "checkpoints").detail
    assert "1 wait" in about(root, "records for MLflow").detail
    assert "models/.base.partial" in about(root, "half-written outputs").detail
    assert "server.pid is of a process that is gone" in about(root, "Prefect").detail
