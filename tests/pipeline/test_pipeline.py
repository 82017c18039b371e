"""The pipeline as a user runs it: dvc repro, experiments, Prefect."""

import json
import re
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from ruamel.yaml import YAML

from discern.compare.comparison import compare
from tests.pipeline.conftest import commit, experiment, make_project, run_in, tracking_uri

pytestmark = pytest.mark.slow

STAGES = 15
# Records and the page hold times and run ids, so they differ from run to run; nothing depends on them.
VOLATILE = re.compile(r"reports/(runs/|report\.html)")


def stages_of_lock(root: Path) -> dict[str, Any]:
    lock: dict[str, Any] = YAML(typ="safe", pure=True).load((root / "dvc.lock").read_text(encoding="utf-8"))
    for stage in lock["stages"].values():
        stage["outs"] = [out for out in stage["outs"] if not VOLATILE.match(out["path"])]
    stages: dict[str, Any] = lock["stages"]
    return stages


def executed(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def runs(root: Path) -> pd.DataFrame:
    mlflow.set_tracking_uri(tracking_uri(root))
    found = mlflow.search_runs(experiment_names=[experiment(root)])
    assert isinstance(found, pd.DataFrame)
    return found


def test_everything_is_there_and_a_second_repro_does_nothing(finished: Path) -> None:
    summary = json.loads((finished / "metrics" / "summary.json").read_text())
    assert list(summary["methods"]) == ["discern", "continue", "simclr", "random_init"]
    for method in summary["methods"]:
        figures = json.loads((finished / "metrics" / "methods" / method / "0.json").read_text())
        assert {"probe", "knn", "retrieval", "label_free", "localisation", "floor"} <= figures.keys()
    assert (finished / "reports" / "report.html").stat().st_size > 100_000
    assert len(list((finished / "reports" / "runs").iterdir())) == STAGES
    again = run_in(finished, "dvc", "repro")
    assert not executed(again.stdout)
    assert "up to date" in again.stdout


def test_every_stage_is_a_complete_child_of_one_parent(finished: Path) -> None:
    table = runs(finished)
    parents = table[table["tags.mlflow.parentRunId"].isna()]
    assert len(parents) == 1
    children = table[table["tags.mlflow.parentRunId"] == parents["run_id"].iloc[0]]
    assert len(children) == STAGES
    assert (table["status"] == "FINISHED").all()
    train = children[children["tags.mlflow.runName"] == "train_encoder@0"].iloc[0]
    assert train["params.train_encoder.pair_weight"] == "1.0"
    assert train["metrics.pair"] > 0
    assert train["metrics.images_per_s"] > 0
    client = mlflow.MlflowClient()
    history = client.get_metric_history(train["run_id"], "loss")
    curve = pd.read_csv(finished / "plots" / "training" / "discern-0.csv")
    assert [m.step for m in history] == curve["step"].tolist()
    assert [m.value for m in history] == pytest.approx(curve["loss"].tolist(), rel=1e-5)
    inputs = client.get_run(train["run_id"]).inputs
    assert inputs
    assert inputs.dataset_inputs
    assert {"encoder"} <= {a.path for a in client.list_artifacts(train["run_id"])}
    record = json.loads((finished / "reports" / "runs" / "train_encoder@0.json").read_text())
    assert record["run_id"] == train["run_id"]


def test_the_controls_get_as_many_passes(finished: Path) -> None:
    spent = {
        method: pd.read_csv(finished / "plots" / "training" / f"{method}-0.csv")["passes"].iloc[-1]
        for method in ("base", "discern", "continue", "simclr")
    }
    assert spent["discern"] == pytest.approx(spent["continue"], rel=0.25)  # whole steps of 3 and of 2 passes
    assert spent["simclr"] == pytest.approx(spent["base"] + spent["continue"], rel=0.25)


def test_an_experiment_reruns_what_the_parameter_touches_and_nothing_else(finished: Path) -> None:
    touched = {"train_encoder@0", "evaluate@discern-0", "report"}
    before = len(runs(finished))
    done = run_in(finished, "dvc", "exp", "run", "--temp", "-n", "heavier", "-S", "train_encoder.pair_weight=3")
    assert executed(done.stdout + done.stderr) == touched
    # It ran in a folder that is deleted by now; its records are in the main checkout all the same.
    table = runs(finished)
    new = table[table["tags.dvc.exp_name"] == "heavier"]
    assert len(table) == before + 4
    children = new[new["tags.mlflow.parentRunId"].notna()]
    assert set(children["tags.mlflow.runName"]) == touched
    assert (new["status"] == "FINISHED").all()
    assert (children["params.train_encoder.pair_weight"].dropna() == "3.0").all()
    parent = new[new["tags.mlflow.parentRunId"].isna()].iloc[0]
    assert parent["tags.reused.pretrain_decoder/0"] in set(table["run_id"])
    shown = run_in(finished, "dvc", "exp", "show", "--csv")
    assert "heavier" in shown.stdout
    assert "train_encoder.pair_weight" in shown.stdout


def test_an_experiment_is_compared_image_by_image(finished: Path, tmp_path: Path) -> None:
    found = compare(finished, "HEAD", "heavier")
    assert [(c.key, c.before, c.after) for c in found.params] == [("train_encoder.pair_weight", "1.0", "3")]
    assert found.code == []
    assert {c.key for c in found.data if c.before == c.after} == {"data/raw", "data/validated", "data/packed"}
    assert not found.notes
    assert None not in found.runs
    assert found.runs[0] != found.runs[1]
    theirs = pd.read_parquet(finished / "data" / "embeddings" / "discern" / "0" / "outcomes.parquet")
    got, path = tmp_path / "heavier.parquet", "data/embeddings/discern/0/outcomes.parquet"
    run_in(finished, "dvc", "get", ".", path, "--rev", found.after.commit, "-o", str(got))
    ours = pd.read_parquet(got)
    changes = {change.measure.key: change for change in found.methods["discern"]}
    for key, column in (("probe.top1", "probe_correct"), ("retrieval.map", "ap"), ("mlp.top1", "mlp_correct")):
        change = changes[key]
        assert change.difference is not None
        assert change.difference.mean == pytest.approx((ours[column] * 1.0 - theirs[column] * 1.0).mean())
        assert change.after is not None
        assert change.after.mean == pytest.approx((ours[column] * 1.0).mean(), abs=1e-6)
    control = [change.difference for change in found.methods["continue"] if change.difference]
    assert control
    assert all(d.low == d.high == 0 for d in control)
    shown = run_in(
        finished, "discern", "compare", "HEAD", "heavier", "--md", "--html", str(tmp_path / "page.html")
    )
    assert "| train_encoder.pair_weight | 1.0 | 3 |" in shown.stdout
    assert re.search(r"^\| discern \| .* → .* [▲▼≈] [+−0]", shown.stdout, re.MULTILINE)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'aria-label="discern-0: training loss"' in page


def test_diffs_between_commits_say_something(finished: Path, tmp_path: Path) -> None:
    run_in(finished, "dvc", "exp", "apply", "heavier")
    commit(finished, "heavier pairs")
    params = json.loads(run_in(finished, "dvc", "params", "diff", "HEAD~1", "--json").stdout)
    assert params["params.yaml"]["train_encoder.pair_weight"] == {"old": 1.0, "new": 3.0, "diff": 2.0}
    metrics = json.loads(run_in(finished, "dvc", "metrics", "diff", "HEAD~1", "--json").stdout)
    assert any(name.startswith("metrics/methods/discern") for name in metrics)
    assert not any(name.startswith("metrics/methods/continue") for name in metrics)
    run_in(finished, "dvc", "plots", "diff", "HEAD~1", "-o", str(tmp_path))
    assert "plots_training_discern-0_csv" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_flow_and_dvc_repro_give_the_same_lock(finished: Path, tmp_path: Path) -> None:
    """Each in a project and a cache of its own: nothing is handed over."""
    expected = stages_of_lock(finished)
    root = make_project(tmp_path / "flow", {"train_encoder.pair_weight": 3})
    done = run_in(root, "python", "-m", "flows.pipeline", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_of_lock(root) == expected
    table = runs(root)
    parent = table[table["tags.mlflow.parentRunId"].isna()]
    assert len(parent) == 1
    assert len(table) == STAGES + 1
    assert (table["status"] == "FINISHED").all()
    again = run_in(root, "python", "-m", "flows.pipeline", "--target", "pack")
    assert again.stdout.count("Cached") + again.stderr.count("Cached") >= 3
