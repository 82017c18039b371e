"""The record of runs, against a real MLflow database."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from discern.settings import settings
from discern.tracking import provenance, run_record
from discern.tracking.deliver import Delivery
from discern.tracking.record import Recorder, flatten
from discern.workspace import Workspace

# What `Recorder` does for a stage, without the runner's parameters.
STAGE = """
import sys
from pathlib import Path
import pandas as pd
from discern.tracking.record import Recorder
from discern.workspace import Workspace

params = {"base": {"seeds": [0]}, "report": {"k": 3}}
record = Recorder(sys.argv[1], Workspace(Path.cwd()), params, used=["base.seeds"])
for step in range(450):
    record.metrics({"loss": 1 / (step + 1), "chance": 2.0}, step=step)
record.metrics({"images_per_second": 12.5, "worst": float("inf")})
record.dataset("packed-train", pd.DataFrame({"path": ["a", "b"], "label": ["x", "y"]}), "d" * 32 + ".dir")
Path("pictures").mkdir(exist_ok=True)
Path("pictures/grid.txt").write_text("grid")
record.artifact(Path("pictures"), "pictures")
record.tags({"weights": "timm/vit.dino", "weights.labels": "no"})
record.pipeline_artifact(Path("pictures/grid.txt"))
record.pipeline_metrics({"discern.top1": 0.5})
record.finish("FINISHED")
"""


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout where two stages of one pipeline ran at the same moment, without a database before."""
    root = tmp_path_factory.mktemp("pipeline")
    (root / "params.yaml").write_text("base: {seeds: [0]}\n")
    env = {**os.environ, "DISCERN_PIPELINE": "p1", "OMP_NUM_THREADS": "1", "DISCERN_TRACKING": "true"}
    stages = [
        subprocess.Popen([sys.executable, "-c", STAGE, name], cwd=root, env=env, stderr=subprocess.PIPE, text=True)
        for name in ("train@0", "train@1")
    ]
    for stage in stages:
        _, errors = stage.communicate(timeout=120)
        assert (stage.returncode, errors) == (0, "")
    return root


def runs(root: Path) -> dict[str, Any]:
    """Every run by `kind name`."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    found = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return {f"{r.data.tags['discern.kind']} {r.info.run_name}": r for r in found}


def client_of(root: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def test_two_first_stages_make_one_database_and_one_parent(pipeline: Path) -> None:
    found = runs(pipeline)
    assert sorted(found) == ["pipeline pipeline", "stage train@0", "stage train@1"]
    parent = found["pipeline pipeline"]
    for name in ("train@0", "train@1"):
        assert found[f"stage {name}"].data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert {r.info.status for r in found.values()} == {"FINISHED"}
    experiment = client_of(pipeline).get_experiment(parent.info.experiment_id)
    assert experiment.artifact_location == (pipeline / "mlartifacts").as_uri()


def test_run_is_complete(pipeline: Path) -> None:
    run, client = runs(pipeline)["stage train@0"], client_of(pipeline)
    assert run.data.params == {"base.seeds": "[0]"}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert {m.step: m.value for m in history} == {step: 1 / (step + 1) for step in range(450)}
    assert run.data.metrics["images_per_second"] == 12.5
    assert run.data.metrics["worst"] == sys.float_info.max
    assert (run.data.tags["weights"], run.data.tags["weights.labels"]) == ("timm/vit.dino", "no")
    artifacts = {a.path for a in client.list_artifacts(run.info.run_id)}
    assert artifacts == {"params.yaml", "environment.json", "pictures"}
    assert (pipeline / "mlartifacts" / run.info.run_id / "artifacts/pictures/grid.txt").read_text() == "grid"
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("packed-train", "d" * 32 + ".dir")
    assert [tag.value for tag in dataset.tags] == ["training"]


def test_parent_has_all_parameters_and_results(pipeline: Path) -> None:
    parent = runs(pipeline)["pipeline pipeline"]
    assert parent.data.params == {"base.seeds": "[0]", "report.k": "3"}
    assert parent.data.metrics == {"discern.top1": 0.5}
    assert [a.path for a in client_of(pipeline).list_artifacts(parent.info.run_id)] == ["grid.txt"]


def test_run_record_names_its_run(pipeline: Path) -> None:
    record = run_record.load(Workspace(pipeline).run_record("train@1"))
    found = runs(pipeline)
    assert record.run_id == found["stage train@1"].info.run_id
    assert record.parent_run_id == found["pipeline pipeline"].info.run_id
    assert (record.tracking, record.tracking_host, record.pipeline) == ("recorded", "sqlite", "p1")
    assert record.metrics["images_per_second"] == 12.5
    assert record.tags == {"weights": "timm/vit.dino", "weights.labels": "no"}
    assert record.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    # Of this process, which may have run other tests before.
    assert 20 < record.peak_memory_mb < psutil.virtual_memory().total / 1e6
    assert 0 < record.seconds < 60


@pytest.fixture
def copy(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A database of its own, ready made: creating one takes seconds."""
    shutil.copy(pipeline / "mlflow.db", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def begin(stage: str, pipeline_id: str) -> Delivery:
    """A stage that runs, in the current folder's database."""
    target = {
        "experiment": "test",
        "pipeline": pipeline_id,
        "stage": stage,
        "parent_name": f"parent of {pipeline_id}",
        "started": int(time.time() * 1000),
        "tags": {},
    }
    delivery = Delivery(Path.cwd())
    delivery.carry([{"kind": "open", "target": target, "params": {}, "all_params": {}}])
    assert delivery.error is None
    return delivery


def end(delivery: Delivery, status: str, reused: dict[str, str]) -> str:
    """Returns the run id."""
    delivery.carry([{"kind": "finish", "status": status, "tags": {}, "reused": reused}])
    assert delivery.error is None
    assert delivery.run is not None
    return delivery.run.run_id


def run_stage(stage: str, pipeline_id: str, status: str, reused: dict[str, str]) -> str:
    """One stage from start to end; returns its run id."""
    return end(begin(stage, pipeline_id), status, reused)


def test_parent_tells_the_truth_about_its_stages(copy: Path) -> None:
    def parent_status() -> str:
        return str(runs(copy)["pipeline parent of p2"].info.status)

    first, second = begin("train@0", "p2"), begin("train@1", "p2")
    assert parent_status() == "RUNNING"
    end(first, "FAILED", {})
    assert parent_status() == "RUNNING"
    end(second, "FINISHED", {})
    assert parent_status() == "FAILED"
    run_stage("train@0", "p2", "FINISHED", {})  # a second try
    assert parent_status() == "FINISHED"


def test_parent_links_to_reused_runs_until_they_run_here(copy: Path) -> None:
    old = run_stage("score@0", "p3", "FINISHED", {})
    run_stage("train@0", "p4", "FINISHED", {"score@0": old, "pack": "abc"})

    def reused() -> dict[str, str]:
        tags = runs(copy)["pipeline parent of p4"].data.tags
        return {key: value for key, value in tags.items() if key.startswith("reused.")}

    assert reused() == {"reused.score/0": old, "reused.pack": "abc"}
    run_stage("score@0", "p4", "FINISHED", {"pack": "abc"})
    assert reused() == {"reused.pack": "abc"}


def test_closing_a_pipeline_that_ran_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from discern.tracking import pipeline

    old = run_stage("score@0", "p5", "FINISHED", {})
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DISCERN_TRACKING", "false")  # of the record below; closing is asked for expressly
    settings.cache_clear()
    record = Recorder("score@0", Workspace(copy))
    record._answer = {"run_id": old}
    record.finish("FINISHED")
    answer = pipeline.close("p6", "KILLED", ["score@0"])
    run = client_of(copy).get_run(answer["run_id"])
    assert (run.info.status, run.data.tags["reused.score/0"]) == ("KILLED", old)
    assert answer["url"] is None
    # The record of a stage that was through when it was cancelled may come later.
    run_stage("train@0", "p6", "FINISHED", {})
    assert client_of(copy).get_run(answer["run_id"]).info.status == "KILLED"
    pipeline.close("p6", "FINISHED", [])  # the flow was tried again
    assert client_of(copy).get_run(answer["run_id"]).info.status == "FINISHED"
    settings.cache_clear()


def test_no_tracking_imports_no_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from discern.tracking.record import Recorder;"
        "from discern.workspace import Workspace; r = Recorder('x', Workspace(Path.cwd()));"
        "r.metrics({'a': 1}); r.artifact(Path.cwd()); r.finish('FINISHED');"
        "assert not {'mlflow', 'torch', 'pandas'} & set(sys.modules); assert r._deliverer is None"
    )
    env = {**os.environ, "DISCERN_TRACKING": "false"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True)
    assert run_record.load(Workspace(tmp_path).run_record("x")).tracking == "off"


def test_caller_errors_are_raised(tmp_path: Path) -> None:
    import pandas as pd

    record = Recorder("x", Workspace(tmp_path), tracking=False)
    with pytest.raises(FileNotFoundError):
        record.artifact(tmp_path / "missing")
    with pytest.raises(ValueError, match="36"):
        record.dataset("n", pd.DataFrame(), "d" * 37)


def test_flatten_uses_the_names_of_dvc_params() -> None:
    tree = {"train": {"lr": 0.5, "kind": "a", "views": {"crop": [0.3, 1.0]}}, "on": True}
    assert flatten(tree) == {"train.lr": "0.5", "train.kind": "a", "train.views.crop": "[0.3, 1.0]", "on": "true"}


def test_dirty_means_changed_by_a_person(tmp_path: Path) -> None:
    def git(*args: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *args], cwd=tmp_path, check=True)

    assert provenance.git_state(tmp_path) == {}
    git("init", "-q", "-b", "main")
    (tmp_path / "dvc.lock").write_text("1")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "dvc.lock").write_text("2")
    (tmp_path / "params.yaml").write_text("of an experiment")
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "moco.yaml").write_text("of an experiment")
    state = provenance.git_state(tmp_path)
    assert (state["git.branch"], state["git.dirty"], len(state["git.commit"])) == ("main", "false", 40)
    (tmp_path / "methods" / "moco").symlink_to("../code.py")  # which code that is, no record says
    assert provenance.git_state(tmp_path)["git.dirty"] == "true"
    (tmp_path / "methods" / "moco").unlink()
    (tmp_path / "code.py").write_text("2")
    assert provenance.git_state(tmp_path)["git.dirty"] == "true"


def test_pipeline_id_is_the_dvc_process(tmp_path: Path) -> None:
    dvc = tmp_path / "dvc"
    ask = "from discern.tracking.provenance import pipeline_id; print(pipeline_id(None))"
    dvc.write_text(f"import subprocess, sys\nfor _ in 'ab': subprocess.run([sys.executable, '-c', {ask!r}])\n")
    process = subprocess.Popen([sys.executable, str(dvc), "repro"], stdout=subprocess.PIPE, text=True)
    first, second = process.communicate()[0].split()
    assert first == second
    assert f"-{process.pid}-" in first
    assert provenance.pipeline_id("given") == "given"


def test_a_run_record_of_before_is_read(pipeline: Path, tmp_path: Path) -> None:
    content = json.loads(Workspace(pipeline).run_record("train@1").read_text())
    del content["tags"]
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert run_record.load(tmp_path / "old.json").tags == {}


def test_broken_run_record_is_named(tmp_path: Path) -> None:
    from discern.errors import DataError

    path = tmp_path / "x.json"
    path.write_text('{"stage": "x"}')
    with pytest.raises(DataError, match=r"x\.json: not a run record"):
        run_record.load(path)
