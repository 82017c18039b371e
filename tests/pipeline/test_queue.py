"""`dvc exp run --queue` with two workers: both experiments leave everything that one in the workspace leaves."""

import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.pipeline.conftest import environment, run_in
from tests.pipeline.test_pipeline import runs

pytestmark = pytest.mark.slow

WEIGHTS = (2, 4)
TOUCHED = {"train_encoder@0", "evaluate@discern-0", "report"}


def start_workers(root: Path) -> None:
    """Two workers, which inherit the output of the command that starts them: a pipe would be waited for."""
    command = ["dvc", "queue", "start", "-j", "2"]
    with (root.parent / "start.log").open("w") as log:
        subprocess.run(
            command, cwd=root, env=environment(root), stdout=log, stderr=subprocess.STDOUT, check=True, timeout=900
        )


def stop_workers(root: Path) -> None:
    """End the experiments, and workers that missed the word to end."""
    run_in(root, "dvc", "queue", "stop", "--kill", check=False)
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "queue-worker" in process.cmdline() and process.cwd() == str(root):
                process.terminate()


def told(root: Path) -> str:
    """What the workers and their experiments wrote."""
    return "\n".join(path.read_text() for path in sorted((root / ".dvc" / "tmp" / "exps").rglob("*.out")))


def test_two_workers_leave_two_complete_records(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(finished, root, symlinks=True)
    (root / "mlflow.db").unlink(missing_ok=True)  # its artifacts lie in the other folder
    shutil.rmtree(root / ".dvc" / "tmp" / "exps", ignore_errors=True)
    for weight in WEIGHTS:
        change = ["-S", f"train_encoder.pair_weight={weight}"]
        run_in(root, "dvc", "exp", "run", "--queue", "-n", f"weight-{weight}", *change)
    try:
        start_workers(root)
        deadline = time.monotonic() + 1500
        while (status := run_in(root, "dvc", "queue", "status").stdout).count("Success") < len(WEIGHTS):
            assert "Failed" not in status, status + told(root)
            assert time.monotonic() < deadline, status + told(root)
            time.sleep(2)
    finally:
        stop_workers(root)
    table = runs(root)
    assert (table["status"] == "FINISHED").all()
    spans = []
    for weight in WEIGHTS:
        mine = table[table["tags.dvc.exp_name"] == f"weight-{weight}"]
        children = mine[mine["tags.mlflow.parentRunId"].notna()]
        assert set(children["tags.mlflow.runName"]) == TOUCHED
        assert (children["params.train_encoder.pair_weight"].dropna() == f"{weight}.0").all()
        spans.append((children["start_time"].min(), children["end_time"].max()))
    assert max(start for start, _ in spans) < min(end for _, end in spans), "they did not run side by side"
    shown = run_in(root, "discern", "compare", "weight-2", "weight-4").stdout
    assert "train_encoder.pair_weight" in shown
    # The checkout itself was not touched.
    assert not run_in(root, "git", "status", "--porcelain").stdout
