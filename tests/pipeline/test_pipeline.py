"""The pipeline as a user runs it: dvc repro, experiments, Prefect, Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from ruamel.yaml import YAML

from tests.pipeline.conftest import change_params, commit, environment, make_project, run_in

pytestmark = pytest.mark.slow

STAGES = 15
ARCHIVE = {"kind": "archive", "mirrors": [], "sha256": "0" * 64, "licence": "x"}
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
    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    found = mlflow.search_runs(search_all_experiments=True)
    assert isinstance(found, pd.DataFrame)
    return found


def test_everything_is_there_and_a_second_repro_does_nothing(finished: Path) -> None:
    summary = json.loads((finished / "metrics" / "summary.json").read_text())
    assert list(summary["arms"]) == ["discern", "continue", "simclr", "random_init"]
    for arm in summary["arms"]:
        figures = json.loads((finished / "metrics" / "arms" / arm / "0.json").read_text())
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
        arm: pd.read_csv(finished / "plots" / "training" / f"{arm}-0.csv")["passes"].iloc[-1]
        for arm in ("base", "discern", "continue", "simclr")
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
    assert parent["tags.reused.pretrain_decoder@0"] in set(table["run_id"])
    shown = run_in(finished, "dvc", "exp", "show", "--csv")
    assert "heavier" in shown.stdout
    assert "train_encoder.pair_weight" in shown.stdout


def test_diffs_between_commits_say_something(finished: Path) -> None:
    run_in(finished, "dvc", "exp", "apply", "heavier")
    commit(finished, "heavier pairs")
    params = json.loads(run_in(finished, "dvc", "params", "diff", "HEAD~1", "--json").stdout)
    assert params["params.yaml"]["train_encoder.pair_weight"] == {"old": 1.0, "new": 3.0, "diff": 2.0}
    metrics = json.loads(run_in(finished, "dvc", "metrics", "diff", "HEAD~1", "--json").stdout)
    assert any(name.startswith("metrics/arms/discern") for name in metrics)
    assert not any(name.startswith("metrics/arms/continue") for name in metrics)
    run_in(finished, "dvc", "plots", "diff", "HEAD~1", "-o", "diff")
    assert "discern-0.csv" in (finished / "diff" / "index.html").read_text(encoding="utf-8")


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_of_training_and_gone_on(number: int, tmp_path: Path) -> None:
    root = make_project(tmp_path / "project", {"pretrain_decoder.passes": 400})
    straight = tmp_path / "straight"
    run_in(root, "dvc", "repro", "pack", DISCERN_TRACKING="false")
    # DISCERN_CHECKPOINT_SECONDS makes a kill without warning lose a second and not a minute.
    env = environment(root) | {"DISCERN_TRACKING": "false", "DISCERN_CHECKPOINT_SECONDS": "1"}
    process = subprocess.Popen(
        ["dvc", "repro", "-s", "pretrain_decoder@0"], cwd=root, env=env, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((root / ".discern" / "work").glob("*/checkpoint.pt")):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.1)
    os.killpg(process.pid, number)
    assert process.wait(60) != 0
    assert not (root / "models" / "base" / "0").exists()
    assert len(list((root / ".discern" / "work").glob("*/checkpoint.pt"))) == 1
    run_in(root, "dvc", "repro", "-s", "pretrain_decoder@0", DISCERN_TRACKING="false")
    assert not list((root / ".discern" / "work").glob("*"))
    make_project(straight, {"pretrain_decoder.passes": 400})
    run_in(straight, "dvc", "repro", "pretrain_decoder@0", DISCERN_TRACKING="false")
    for name in ("encoder", "decoder", "ssl"):
        file = Path("models", "base", "0", f"{name}.safetensors")
        assert (root / file).read_bytes() == (straight / file).read_bytes(), name
    curve = Path("plots", "training", "base-0.csv")
    assert (root / curve).read_text() == (straight / curve).read_text()


def test_unlabelled_photographs_go_all_the_way(finished: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    import tarfile

    with tarfile.open(finished / "data" / "raw" / "images.tar") as tar:
        for i, member in enumerate(tar.getmembers()):
            file = tar.extractfile(member)
            assert file
            (photos / f"{i:03}.png").write_bytes(file.read())
    root = make_project(tmp_path / "project", {})
    change_params(root, {"dataset": {"kind": "folder", "path": str(photos), "licence": "mine"}})
    run_in(root, "dvc", "repro")
    summary = json.loads((root / "metrics" / "summary.json").read_text())
    figures = json.loads((root / "metrics" / "arms" / "discern" / "0.json").read_text())
    assert "probe" not in figures
    assert figures["label_free"]["view_rank1"] > 0
    assert summary["arms"]["discern"]
    assert "report:" in run_in(root, "discern", "results").stdout


@pytest.mark.parametrize(
    ("change", "stage", "expected"),
    [
        ({"pack.image_size": 0}, "pack", r"params\.yaml: pack\.image_size = 0: input should be greater"),
        ({"dataset": {"kind": "folder", "path": "nowhere", "licence": "x"}}, "download", r"nowhere"),
        ({"dataset": {"kind": "folder", "path": "empty", "licence": "x"}}, "download", r"empty"),
        ({"dataset": {"kind": "folder", "path": "one", "licence": "x"}}, "validate", r"one class"),
        (
            {"dataset": ARCHIVE | {"url": "no.tar"}},
            "download", r"no\.tar",
        ),
        (
            {"dataset": ARCHIVE | {"url": "params.yaml"}},
            "download", r"params\.yaml.*(sha256|checksum)",
        ),
    ],
    ids=["image size 0", "missing folder", "empty folder", "one class", "missing archive", "wrong checksum"],
)  # fmt: skip
def test_user_errors_are_one_line_without_traceback(
    change: dict[str, Any], stage: str, expected: str, tmp_path: Path
) -> None:
    from PIL import Image

    root = make_project(tmp_path / "project", change)
    (root / "empty").mkdir()
    (root / "one" / "only").mkdir(parents=True)
    for i in range(12):
        Image.new("RGB", (32, 32), (i * 20, 99, 40)).save(root / "one" / "only" / f"{i}.png")
    done = run_in(root, "dvc", "repro", stage, check=False, DISCERN_TRACKING="false")
    assert done.returncode != 0
    output = done.stdout + done.stderr
    said = [line for line in output.splitlines() if line.startswith("discern: ERROR")]
    assert len(said) == 1, output
    assert re.search(expected, said[0]), said[0]
    assert "Traceback" not in output
