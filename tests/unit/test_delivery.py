"""MLflow down, slow, or killed: nothing of a record is lost, nothing is told twice, no stage is delayed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from discern.settings import settings
from discern.tracking import spool
from discern.tracking.deliver import KILLED, Delivery, deliver
from discern.tracking.record import Recorder
from discern.tracking.spool import Spool, follow
from discern.workspace import Workspace

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
Path("grid.txt").unlink()
if len(sys.argv) > 2:
    Path("ready").touch()
    time.sleep(60)
record.finish("FINISHED")
"""


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: creating one takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def root(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "params.yaml").write_text("base: {seed: 0}\n")
    shutil.copy(empty_database, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISCERN_PIPELINE", "p1")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def environment(uri: str) -> dict[str, str]:
    return {**os.environ, "DISCERN_TRACKING": "true", "DISCERN_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}


def stage(root: Path, name: str, uri: str) -> str:
    """Run one; returns what it said."""
    command = [sys.executable, "-c", STAGE, name]
    done = subprocess.run(command, cwd=root, env=environment(uri), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stderr


def started(root: Path, name: str, uri: str) -> subprocess.Popen[str]:
    """A stage that has said all but its end."""
    command = [sys.executable, "-c", STAGE, name, "wait"]
    process = subprocess.Popen(command, cwd=root, env=environment(uri), stderr=subprocess.PIPE, text=True)
    wait_for((root / "ready").exists)
    return process


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


def records() -> list[Path]:
    return sorted(spool.waiting().glob("*"))


def database(root: Path) -> str:
    return f"sqlite:///{root / 'mlflow.db'}"


def all_runs(root: Path) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(database(root))
    return list(client.search_runs([e.experiment_id for e in client.search_experiments()]))


def told(root: Path) -> dict[str, Any]:
    """Runs of stages by name; a second one of the same name would not be lost in a dict."""
    stages = [run for run in all_runs(root) if run.data.tags["discern.kind"] == "stage"]
    names = [run.info.run_name for run in stages]
    assert len(set(names)) == len(names)
    return dict(zip(names, stages, strict=True))


def status_of_parent(root: Path) -> str:
    (parent,) = [run for run in all_runs(root) if run.data.tags["discern.kind"] == "pipeline"]
    return str(parent.info.status)


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
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"grid.txt", "params.yaml", "environment.json"}


def test_what_a_dead_server_missed_is_delivered_once(root: Path) -> None:
    said = stage(root, "train@0", DEAD)
    assert said.count("MLflow does not take the record of this stage") == 1
    assert "discern sync" in said
    assert "hunter2" not in said
    (waiting,) = records()
    assert not any(b"hunter2" in p.read_bytes() for p in root.rglob("*") if p.is_file())
    found = deliver()
    assert (found.stages, found.left, found.error) == (["train@0"], 0, None)
    assert not waiting.exists()
    is_complete(root, told(root)["train@0"])
    assert deliver().stages == []
    assert len(told(root)) == 1


def test_a_delivery_that_stopped_halfway_goes_on_without_doubling(root: Path) -> None:
    stage(root, "train@0", DEAD)
    (waiting,) = records()
    halfway = Delivery(waiting)
    halfway.carry([message for message in follow(waiting, lambda: True) if message][:220])
    assert (halfway.stage, halfway.error) == ("train@0", None)
    half = told(root)["train@0"]
    assert (half.info.status, half.data.metrics["loss"]) == ("RUNNING", 1 / 200)
    assert deliver().stages == ["train@0"]
    is_complete(root, told(root)["train@0"])


def test_delivering_a_whole_record_twice_is_as_good_as_once(root: Path) -> None:
    stage(root, "train@0", DEAD)
    (waiting,) = records()
    for _ in range(2):
        delivery = Delivery(waiting)
        delivery.carry(follow(waiting, lambda: True))
        assert delivery.error is None
        is_complete(root, told(root)["train@0"])


def test_the_next_stage_that_gets_through_delivers_the_rest(root: Path) -> None:
    stage(root, "train@0", DEAD)
    said = stage(root, "train@1", database(root))
    assert said == ""
    wait_for(lambda: not records())
    runs = told(root)
    assert sorted(runs) == ["train@0", "train@1"]
    for run in runs.values():
        is_complete(root, run)


def test_a_server_that_stays_dead_keeps_everything(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(root, "train@0", DEAD)
    stage(root, "train@1", DEAD)
    monkeypatch.setenv("DISCERN_TRACKING_URI", DEAD)
    settings.cache_clear()
    began = time.monotonic()
    found = deliver()
    assert time.monotonic() - began < 15
    assert (found.stages, found.left) == ([], 2)
    assert found.error is not None
    assert "hunter2" not in found.error
    assert len(records()) == 2


def test_a_record_that_mlflow_refuses_is_passed_over(root: Path) -> None:
    stage(root, "train@0", DEAD)
    stage(root, "train@1", DEAD)
    refused, _ = records()
    messages = refused / spool.MESSAGES
    messages.write_text(messages.read_text().replace('"loss"', '"loss?"'))  # no name that MLflow allows
    found = deliver()
    assert (found.stages, found.left) == (["train@1"], 1)
    assert found.error is not None
    assert "loss?" in found.error
    assert records() == [refused]
    is_complete(root, told(root)["train@1"])


def test_a_stage_killed_outright_ends_as_failed_at_once(root: Path) -> None:
    process = started(root, "train@0", database(root))
    wait_for(lambda: told(root))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not records())
    run = told(root)["train@0"]
    is_complete(root, run, status="FAILED")
    assert run.data.tags["discern.end"] == "killed"
    assert status_of_parent(root) == "FAILED"


def test_a_stage_and_its_deliverer_killed_outright_are_delivered_as_failed(root: Path) -> None:
    """With kill -9 to both, nobody is left to say anything but the messages on disk."""
    process = started(root, "train@0", DEAD)
    assert deliver().stages == []  # it lives: its messages are its own
    assert len(records()) == 1
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert deliver().stages == ["train@0"]
    run = told(root)["train@0"]
    is_complete(root, run, status="FAILED")
    assert run.data.tags["discern.end"] == "killed"


def test_stages_side_by_side_leave_each_other_alone(root: Path) -> None:
    """The first one's deliverer, which looks for what waits, takes nothing of the second, which still lives."""
    second = started(root, "train@1", database(root))
    stage(root, "train@0", database(root))
    wait_for(lambda: "train@1" in told(root))
    assert deliver().stages == []
    runs = told(root)
    is_complete(root, runs["train@0"])
    assert runs["train@1"].info.status == status_of_parent(root) == "RUNNING"
    second.kill()
    second.communicate()
    wait_for(lambda: told(root)["train@1"].info.status == "FAILED")
    wait_for(lambda: not records())


def test_a_cancelled_run_stays_so(root: Path) -> None:
    """Whatever comes late or twice: neither the run of a cancelled stage nor its parent is opened again."""
    from discern.tracking import pipeline

    record = Spool("0")
    record.append(opened("train@0"))
    record.append({"kind": "finish", "status": "KILLED", "tags": {}, "reused": {}})
    record.close(delivered=False)
    (waiting,) = records()
    pipeline.close("p1", "KILLED", [])
    seen: list[str] = []
    for _ in range(2):
        delivery = Delivery(waiting)
        for message in follow(waiting, lambda: True):
            delivery.carry([message])
            seen.append(status_of_parent(root))
        assert delivery.error is None
        assert told(root)["train@0"].info.status == "KILLED"
    assert seen == ["KILLED"] * 4
    assert deliver().stages == ["train@0"]
    assert told(root)["train@0"].info.status == "KILLED"


def opened(stage: str) -> dict[str, Any]:
    target = {
        "experiment": "discern", "pipeline": "p1", "stage": stage, "parent_name": "p", "started": 1,
        "record": f"record of {stage}", "tags": {},
    }  # fmt: skip
    return {"kind": "open", "target": target, "params": {}, "all_params": {}}


def test_half_a_message_and_an_empty_record_are_no_obstacle(root: Path) -> None:
    empty = Spool("0")
    empty._messages.write('{"kind": "op')
    empty.close(delivered=False)
    stage(root, "train@0", DEAD)
    assert deliver().stages == ["", "train@0"]
    assert records() == []
    assert list(told(root)) == ["train@0"]


def test_half_a_message_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / spool.MESSAGES
    path.write_text('{"kind": "a"}\n{"kind": ')
    over = False
    messages = follow(tmp_path, lambda: over)
    assert [next(messages), next(messages)] == [{"kind": "a"}, None]
    with path.open("a") as file:
        file.write('"b"}\n{"half')
    assert [next(messages), next(messages)] == [{"kind": "b"}, None]
    over = True
    assert list(messages) == []


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no way to stop a process")
def test_a_deliverer_that_does_not_move_delays_no_step(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe would be full, and block, after 64 KiB."""
    monkeypatch.setattr("discern.tracking.record.FINISH_SECONDS", 0.5)
    record = Recorder("train@0", Workspace(root), tracking=True)
    assert record._deliverer is not None
    record._deliverer.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    for step in range(5000):
        record.metrics({"loss": 1.0, "images_per_second": 2.0}, step=step)
    assert time.monotonic() - began < 5
    record.finish("FINISHED")
    assert record._deliverer.poll() is not None
    said = json.loads(Workspace(root).run_record("train@0").read_text())["tracking"]
    assert said == "waiting: MLflow took more than 0.5 s"
    assert deliver().stages == ["train@0"]
    assert told(root)["train@0"].info.status == "FINISHED"


def test_a_deliverer_that_was_killed_does_not_stop_the_stage(root: Path) -> None:
    record = Recorder("train@0", Workspace(root), tracking=True)
    assert record._deliverer is not None
    record._deliverer.kill()
    record.metrics({"loss": 1.0}, step=0)
    record.finish("FINISHED")
    said = json.loads(Workspace(root).run_record("train@0").read_text())["tracking"]
    assert said == "waiting: the process that delivers it ended early"
    assert deliver().stages == ["train@0"]
    assert told(root)["train@0"].data.metrics == {"loss": 1.0}


def test_points_are_sent_in_batches(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    class Run:
        def metrics(self, points: list[Any]) -> None:
            sent.append(len(points))

    delivery: Any = Delivery(root)
    delivery.run = Run()
    delivery.carry({"kind": "metrics", "points": [["loss", 1.0, 0, step]]} for step in range(450))
    assert sent == [200, 200]
    monkeypatch.setattr("discern.tracking.deliver.BATCH_SECONDS", -1.0)
    delivery.carry([None])
    assert sent == [200, 200, 50]


def test_a_record_without_a_beginning_says_nothing(root: Path) -> None:
    delivery = Delivery(root)
    delivery.carry([KILLED])
    assert (delivery.error, delivery.run, all_runs(root)) == (None, None, [])


@pytest.mark.parametrize(
    "use",
    [
        "from discern.registry.store import Store; Store('birds')",
        "from discern.tracking.mlflow_store import *; from pathlib import Path;"
        f"StageRun(Target('{DEAD}', 'e', Path.cwd(), 'p', 's', 'n', 1))",
    ],
)
def test_a_dead_server_costs_seconds_whatever_was_imported_first(root: Path, use: str) -> None:
    plain = {k: v for k, v in environment(DEAD).items() if not k.startswith("MLFLOW_")}
    code = (
        "import mlflow, time\nbegan = time.monotonic()\n"
        f"try:\n    {use}\nexcept Exception as error: print(error)\n"
        "assert time.monotonic() - began < 60"  # MLflow's own patience is four minutes
    )
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Max retries exceeded" in done.stdout
