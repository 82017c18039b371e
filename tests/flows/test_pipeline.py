"""The Prefect flow runs the same pipeline as `dvc repro`, leaves a full record, and can be stopped."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

FLOW = [sys.executable, "-m", "flows.pipeline"]
# The same where Prefect is slow to connect to its server's events, and then tells of those it still holds.
SLOW_FLOW = """
import asyncio, sys
from prefect.events.worker import EventsWorker
from flows.pipeline import main

run = EventsWorker._run

async def run_later(worker):
    await asyncio.sleep(3)
    await run(worker)

EventsWorker._run = run_later
sys.exit(main())
"""
REPRO = [sys.executable, "-m", "dvc", "repro"]


Ask = Callable[[str, dict[str, Any]], Any]


def states(ask: Ask) -> list[tuple[str, str]]:
    """Name and state of every task of the flow run that was started last, newest first."""
    started = {"flow_runs": {"start_time": {"is_null_": False}}}  # others may be scheduled
    (flow,) = ask("flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1, **started})
    mine = {"flow_runs": {"id": {"any_": [flow["id"]]}}}
    runs = ask("task_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", **mine})
    return [(run["name"], run["state"]["name"]) for run in runs]


def lock(root: Path) -> dict[str, Any]:
    """dvc.lock without the run records, which hold times and ids."""
    stages: dict[str, Any] = YAML(typ="safe").load((root / "dvc.lock").read_text())["stages"]
    for stage in stages.values():
        stage["outs"] = [out for out in stage["outs"] if not out["path"].startswith("reports/runs/")]
    return stages


def test_flow_equals_repro_and_reuses_what_did_not_change(
    checkout: Path, tmp_path: Path, prefect_env: dict[str, str], ask: Ask
) -> None:
    other = shutil.copytree(checkout, tmp_path / "other", symlinks=True)
    quiet = {**prefect_env, "DISCERN_TRACKING": "false"}
    plain = subprocess.Popen(REPRO, cwd=other, env=quiet, stdout=subprocess.DEVNULL)
    subprocess.run(FLOW, cwd=checkout, env=prefect_env, check=True, timeout=900)
    assert plain.wait(timeout=900) == 0
    assert lock(checkout) == lock(other)
    assert sorted(states(ask)) == [("draw", "Completed"), ("train_encoder@0", "Completed")]

    again = [*FLOW, "--set", "train_encoder.pair_weight=0.25"]
    subprocess.run(again, cwd=checkout, env=prefect_env, check=True, timeout=900)
    assert states(ask) == [("train_encoder@0", "Completed"), ("draw", "Cached")]
    assert (checkout / "model-0.txt").read_text() == "20 species weight 0.25"
    assert "pair_weight: 0.25" in (checkout / "params.yaml").read_text()

    artifacts = ask("artifacts/filter", {"sort": "CREATED_DESC"})
    progress = next(a for a in artifacts if a["key"] == "progress-train-encoder-0")
    assert (progress["type"], float(progress["data"])) == ("progress", 100.0)
    check_mlflow(checkout)


def check_mlflow(root: Path) -> None:
    """Two parents, the second with one child and a link to the first's other child."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    (experiment,) = (e for e in client.search_experiments() if e.name == "discern")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    assert {run.info.status for run in runs} == {"FINISHED"}
    parents = [run for run in runs if run.data.tags["discern.kind"] == "pipeline"]
    children = {
        p.info.run_id: {r.info.run_name: r for r in runs if r.data.tags.get("mlflow.parentRunId") == p.info.run_id}
        for p in parents
    }
    first, second = (children[p.info.run_id] for p in parents)
    assert (sorted(first), sorted(second)) == (["draw", "train_encoder@0"], ["train_encoder@0"])
    assert parents[1].data.tags["reused.draw"] == first["draw"].info.run_id
    assert second["train_encoder@0"].data.metrics["loss"] == 0.25
    used = set(second["train_encoder@0"].data.params)
    assert "train_encoder.pair_weight" in used
    assert {key.split(".")[0] for key in used} == {"train_encoder"}


def test_cancelled_flow_leaves_nothing_running(checkout: Path, prefect_env: dict[str, str], ask: Ask) -> None:
    env = {**prefect_env, "DISCERN_TRACKING": "false", "WORK": "300"}
    flow = subprocess.Popen([*FLOW, "--set", "methods.seeds=[0, 1]"], cwd=checkout, env=env)
    pid = wait_for_training(checkout, flow)
    flow.send_signal(signal.SIGTERM)  # what Prefect's runner does when a run is cancelled
    assert flow.wait(timeout=40) != 0
    # The other seed could have been next.
    assert [name for name, _ in states(ask)] == ["train_encoder@0", "draw"]
    assert int((checkout / "training.pid").read_text()) == pid
    # On threads it is gone by now; in a Dask worker it sees that the worker is gone, and stops.
    deadline = time.monotonic() + (20 if "DISCERN_DASK" in prefect_env else 0)
    while (left := [p for p in psutil.process_iter() if _works_in(p, checkout)]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    # A Dask worker is killed before it can tell Prefect how its task ended.
    running = {"Running"} if "DISCERN_DASK" not in prefect_env else set()
    assert states(ask)[0][1] not in {"Completed", *running}


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd() == str(folder)
    except psutil.Error:
        return False


def wait_for_training(checkout: Path, flow: subprocess.Popen[bytes]) -> int:
    """Process id of the toy training, once it works."""
    deadline = time.monotonic() + 600
    written = checkout / "training.pid"
    while time.monotonic() < deadline and flow.poll() is None:
        if written.exists() and (text := written.read_text()):
            os.kill(int(text), 0)
            return int(text)
        time.sleep(0.1)
    pytest.fail("the training never started")


def test_wrong_override_is_one_line(checkout: Path, prefect_env: dict[str, str]) -> None:
    before = (checkout / "params.yaml").read_text()
    command = [sys.executable, "-c", SLOW_FLOW, "--set", "train_encoder.pair_wait=1"]
    result = subprocess.run(command, cwd=checkout, env=prefect_env, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    error = "discern: ERROR override 'train_encoder.pair_wait=1': train_encoder.pair_wait is not in params.yaml"
    assert error in result.stderr.splitlines()
    after = result.stderr.partition(f"{error}\n")[2]
    assert not after or ("DISCERN_DASK" in prefect_env and "Traceback" not in after)  # Dask tells how it closes
    assert (checkout / "params.yaml").read_text() == before


def test_stages_that_do_not_need_each_other_run_side_by_side(
    checkout: Path, prefect_env: dict[str, str], ask: Ask
) -> None:
    env = {**prefect_env, "DISCERN_TRACKING": "false", "DISCERN_WORKERS": "2", "WORK": "4"}
    started = [run["id"] for run in ask("flow_runs/filter", {})]
    subprocess.run([*FLOW, "--set", "methods.seeds=[0, 1]"], cwd=checkout, env=env, check=True, timeout=900)
    (mine,) = (run["id"] for run in ask("flow_runs/filter", {}) if run["id"] not in started)
    tasks = {run["name"]: run for run in ask("task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [mine]}}})}
    assert {name: run["state"]["name"] for name, run in tasks.items()} == dict.fromkeys(tasks, "Completed")
    one, two = (tasks[f"train_encoder@{seed}"] for seed in (0, 1))
    assert one["start_time"] < two["end_time"]
    assert two["start_time"] < one["end_time"]
    assert tasks["draw"]["end_time"] <= min(one["start_time"], two["start_time"])
    assert one["tags"] == ["gpu"]
    assert tasks["draw"]["tags"] == []


def test_after_a_failure_nothing_more_is_started(checkout: Path, prefect_env: dict[str, str], ask: Ask) -> None:
    code = (checkout / "train_encoder.py").read_text()
    (checkout / "train_encoder.py").write_text(code.replace("def run(ctx):", "def run(ctx):\n    sys.exit(3)"))
    env = {**prefect_env, "DISCERN_TRACKING": "false"}
    command = [*FLOW, "--set", "methods.seeds=[0, 1]"]
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("discern: ERROR stage train_encoder@0 failed (exit code")
    # Both seeds were ready.
    assert states(ask) == [("train_encoder@0", "Failed"), ("draw", "Completed")]
