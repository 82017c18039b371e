"""MLflow down, slow, or killed: nothing of a stage's record is lost, and nothing is told twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from discern.settings import settings
from discern.tracking import spool
from discern.tracking.spool import Spool, deliver

DEAD = "http://me:hunter2@127.0.0.1:9"

# A stage whose artifact is gone by the time it is delivered, as the next run of the stage would do it.
STAGE = """
import sys, time
from pathlib import Path
import pandas as pd
from discern.tracking.record import Recorder
from discern.workspace import Workspace

record = Recorder(sys.argv[1], Workspace(Path.cwd()), {"base": {"seed": 0}})
for step in range(300):
    record.metrics({"loss": 1 / (step + 1)}, step=step)
record.dataset("packed", pd.DataFrame({"path": ["a", "b"]}), "d" * 32)
Path("grid.txt").write_text("grid")
record.artifact(Path("grid.txt"))
if len(sys.argv) > 2:
    Path("ready").touch()
    time.sleep(60)
record.finish("FINISHED")
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "params.yaml").write_text("base: {seed: 0}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISCERN_PIPELINE", "p1")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def environment(uri: str) -> dict[str, str]:
    return {**os.environ, "DISCERN_TRACKING": "true", "DISCERN_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}


def stage(root: Path, name: str, uri: str) -> None:
    command = [sys.executable, "-c", STAGE, name]
    done = subprocess.run(command, cwd=root, env=environment(uri), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def database(root: Path) -> str:
    return f"sqlite:///{root / 'mlflow.db'}"


def told(root: Path) -> dict[str, Any]:
    """Runs of stages by name; a second one of the same name would not be lost in a dict."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(database(root))
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    stages = [run for run in found if run.data.tags["discern.kind"] == "stage"]
    names = [run.info.run_name for run in stages]
    assert len(set(names)) == len(names)
    return dict(zip(names, stages, strict=True))


def is_complete(root: Path, run: Any, status: str = "FINISHED") -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(database(root))
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == list(range(300))
    assert [point.value for point in history] == pytest.approx([1 / (step + 1) for step in range(300)])
    assert run.data.params == {"base.seed": "0"}
    assert run.info.status == status
    inputs = client.get_run(run.info.run_id).inputs
    assert inputs is not None
    assert [d.dataset.name for d in inputs.dataset_inputs] == ["packed"]
    assert "grid.txt" in {artifact.path for artifact in client.list_artifacts(run.info.run_id)}


def test_what_a_dead_server_missed_is_delivered_once(root: Path) -> None:
    stage(root, "train@0", DEAD)
    (waiting,) = spool.waiting().iterdir()
    assert not any(b"hunter2" in p.read_bytes() for p in waiting.rglob("*") if p.is_file())
    (root / "grid.txt").unlink()
    found = deliver()
    assert (found.stages, found.left, found.error) == (["train@0"], 0, None)
    assert list(spool.waiting().iterdir()) == []
    is_complete(root, told(root)["train@0"])
    assert deliver().stages == []
    assert len(told(root)) == 1


def test_a_delivery_that_stopped_halfway_goes_on_without_doubling(root: Path) -> None:
    stage(root, "train@0", DEAD)
    (waiting,) = spool.waiting().iterdir()
    messages = waiting / spool.MESSAGES
    everything = messages.read_text()
    messages.write_text("".join(everything.splitlines(keepends=True)[:120]))
    halfway, error, _ = spool._deliver(waiting)
    assert (halfway, error) == ("train@0", None)
    assert told(root)["train@0"].info.status == "FAILED"
    messages.write_text(everything)
    assert deliver().stages == ["train@0"]
    is_complete(root, told(root)["train@0"])


def test_the_next_stage_that_gets_through_delivers_the_rest(root: Path) -> None:
    stage(root, "train@0", DEAD)
    stage(root, "train@1", database(root))
    deadline = time.monotonic() + 60
    while any(spool.waiting().iterdir()) and time.monotonic() < deadline:
        time.sleep(0.2)
    runs = told(root)
    assert sorted(runs) == ["train@0", "train@1"]
    for run in runs.values():
        is_complete(root, run)


def test_a_server_that_stays_dead_keeps_everything(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(root, "train@0", DEAD)
    stage(root, "train@1", DEAD)
    monkeypatch.setenv("DISCERN_TRACKING_URI", DEAD)
    settings.cache_clear()
    found = deliver()
    assert (found.stages, found.left) == ([], 2)
    assert found.error is not None
    assert "hunter2" not in found.error
    assert len(list(spool.waiting().iterdir())) == 2


def test_a_stage_and_its_writer_killed_outright_are_delivered_as_failed(root: Path) -> None:
    """With kill -9 to both, nobody is left to say anything but the messages on disk."""
    import psutil

    process = subprocess.Popen([sys.executable, "-c", STAGE, "train@0", "wait"], cwd=root, env=environment(DEAD))
    deadline = time.monotonic() + 60
    while not (root / "ready").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert deliver().stages == []  # it lives: its messages are its own
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert deliver().stages == ["train@0"]
    run = told(root)["train@0"]
    is_complete(root, run, status="FAILED")
    assert run.data.tags["discern.end"] == "killed"


def test_half_a_message_and_an_empty_record_are_no_obstacle(root: Path) -> None:
    empty = Spool("a" * 32)
    empty._file.write('{"kind": "op')
    empty.keep()
    stage(root, "train@0", DEAD)
    assert deliver().stages == ["", "train@0"]
    assert list(spool.waiting().iterdir()) == []
