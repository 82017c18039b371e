"""`dvc exp run --queue` with two workers: both experiments leave everything that one in the workspace leaves."""

import shutil
import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import run_in
from tests.pipeline.test_pipeline import runs

pytestmark = pytest.mark.slow

WEIGHTS = (2, 4)
TOUCHED = {"train_encoder@0", "evaluate@discern-0", "report"}


def test_two_workers_leave_two_complete_records(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "project"
    shutil.copytree(finished, root, symlinks=True)
    (root / "mlflow.db").unlink(missing_ok=True)  # its artifacts lie in the other folder
    shutil.rmtree(root / ".dvc" / "tmp" / "exps", ignore_errors=True)
    for weight in WEIGHTS:
        change = ["-S", f"train_encoder.pair_weight={weight}"]
        run_in(root, "dvc", "exp", "run", "--queue", "-n", f"weight-{weight}", *change)
    try:
        run_in(root, "dvc", "queue", "start", "-j", "2")
        deadline = time.monotonic() + 400
        while (status := run_in(root, "dvc", "queue", "status").stdout).count("Success") < len(WEIGHTS):
            assert "Failed" not in status, status
            assert time.monotonic() < deadline, status
            time.sleep(2)
    finally:
        run_in(root, "dvc", "queue", "stop", "--kill", check=False)
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
