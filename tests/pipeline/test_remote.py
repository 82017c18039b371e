"""Sharing results through a DVC remote."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from discern.dvcfiles.pull import needed
from discern.errors import DataError
from tests.pipeline.conftest import run_in

pytestmark = pytest.mark.slow


def test_one_stage_is_fetched_with_what_it_reads_and_runs_elsewhere(finished: Path, tmp_path: Path) -> None:
    root, there, remote = tmp_path / "here", tmp_path / "there", os.environ.get("TEST_REMOTE", tmp_path / "remote")
    shutil.copytree(finished, root, symlinks=True)
    run_in(root, "dvc", "remote", "add", "--default", "store", str(remote))
    run_in(root, "git", "commit", "-qam", "remote")
    run_in(root, "dvc", "push")
    subprocess.run(["git", "clone", "-q", str(root), str(there)], check=True)
    stage = "train_encoder@0"
    fetched = run_in(there, "discern", "pull", stage).stdout.split()
    assert fetched == needed(there, stage)
    assert "data/packed" in fetched
    assert not (there / "models" / "encoders").exists()
    assert not (there / "data" / "raw").exists()
    forced = run_in(there, "dvc", "repro", "--single-item", "--force", stage)
    assert f"Running stage '{stage}'" in forced.stdout
    weights = Path("models", "encoders", "discern", "0", "encoder.safetensors")
    assert (there / weights).read_bytes() == (root / weights).read_bytes()
    with pytest.raises(DataError, match="no stage fly_to_the_moon; it has download"):
        needed(there, "fly_to_the_moon")
