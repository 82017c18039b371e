"""Deployments as a person meets them: scheduled, started by a form, cancelled, and in a clone of their own."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.flows.conftest import end, wait_until

ROOT = Path(__file__).parents[2]
Ask = Callable[[str, dict[str, Any]], Any]


@pytest.fixture
def served(checkout: Path, prefect_env: dict[str, str], ask: Ask) -> Iterator[Path]:
    """A checkout whose flows are being served, with training that takes a minute."""
    env = {**prefect_env, "DISCERN_TRACKING": "false", "WORK": "60", "DISCERN_CRON": "*/30 * * * *"}
    with (checkout.parent / "deploy.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.deploy"], cwd=checkout, env=env, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: len(nightly(ask)) == 3 and process.poll() is None)
        yield checkout
    finally:
        end(process)


def nightly(ask: Ask) -> dict[str, Any]:
    found = ask("deployments/filter", {"deployments": {"name": {"any_": ["nightly"]}}})
    flows = {flow["id"]: flow["name"] for flow in ask("flows/filter", {})}
    return {f"{flows[one['flow_id']]}/{one['name']}": one for one in found}


def state(env: dict[str, str], run: str) -> str:
    with urllib.request.urlopen(f"{env['PREFECT_API_URL']}/flow_runs/{run}", timeout=30) as answer:
        return str(json.load(answer)["state"]["type"])


def trainer(folder: Path) -> psutil.Process | None:
    written = folder / "training.pid"
    try:
        return psutil.Process(int(written.read_text())) if written.exists() else None
    except (ValueError, psutil.Error):
        return None


def test_deployments_are_scheduled_cancelled_and_go_on_in_their_own_clone(
    served: Path, prefect_env: dict[str, str], ask: Ask
) -> None:
    found = nightly(ask)
    assert set(found) == {"pipeline/nightly", "data-check/nightly", "promotion-check/nightly"}
    # The form of the UI is drawn from this.
    form = found["pipeline/nightly"]["parameter_openapi_schema"]["properties"]
    assert form["force"]["type"] == "boolean"
    assert form["targets"]["items"]["type"] == "string"
    assert all(field["description"] for field in form.values())
    assert found["pipeline/nightly"]["parameters"] == {"revision": "main"}
    # Scheduling really happens: with SQLAlchemy 2.1 it fails silently.
    of_all = {"deployments": {"id": {"any_": [one["id"] for one in found.values()]}}}
    wait_until(lambda: {r["deployment_id"] for r in scheduled(ask, of_all)} == {d["id"] for d in found.values()})

    (served / "params.yaml").write_text((served / "params.yaml").read_text() + "\n# an edit\n")
    clone = served / ".discern" / "clones" / "scheduled"
    start = f"deployments/{found['pipeline/nightly']['id']}/create_flow_run"
    run = ask(start, {"parameters": {"revision": "main"}})["id"]
    wait_until(lambda: trainer(clone) is not None)
    training = trainer(clone)
    assert training is not None
    ask(f"flow_runs/{run}/set_state", {"state": {"type": "CANCELLING"}})
    began = time.monotonic()
    wait_until(lambda: state(prefect_env, run) == "CANCELLED", 60)
    assert not training.is_running() or training.status() == psutil.STATUS_ZOMBIE
    assert time.monotonic() - began < 60
    # Nobody's folder was touched.
    assert not (served / "images.txt").exists()
    assert (served / "params.yaml").read_text().endswith("# an edit\n")
    assert "# an edit" not in (clone / "params.yaml").read_text()

    (clone / "training.pid").unlink()
    again = ask(start, {"parameters": {"revision": "main", "targets": ["draw"]}})["id"]
    wait_until(lambda: state(prefect_env, again) in {"COMPLETED", "FAILED", "CRASHED"})
    assert state(prefect_env, again) == "COMPLETED"
    tasks = ask("task_runs/filter", {"task_runs": {"flow_run_id": {"any_": [again]}}})
    assert [(t["name"], t["state"]["name"]) for t in tasks] == [("draw", "Cached")]


def test_the_process_pool_of_prefect_yaml(checkout: Path, prefect_env: dict[str, str], ask: Ask) -> None:
    """`prefect deploy`, a worker, a run: in a clone of its own, as served flows do."""
    shutil.copy(ROOT / "prefect.yaml", checkout)
    env = {**prefect_env, "DISCERN_TRACKING": "false", "DISCERN_CHECKOUT": str(checkout)}
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]

    def do(*command: str) -> None:
        done = subprocess.run(
            [*prefect, *command], cwd=checkout, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    do("work-pool", "create", "discern-process", "--type", "process")
    do("deploy", "--name", "process")
    (made,) = ask("deployments/filter", {"deployments": {"name": {"any_": ["process"]}}})
    run = ask(
        f"deployments/{made['id']}/create_flow_run", {"parameters": {"revision": "main", "targets": ["draw"]}}
    )
    with (checkout.parent / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [*prefect, "worker", "start", "--pool", "discern-process"],
            cwd=checkout,
            env=env,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: state(prefect_env, run["id"]) in {"COMPLETED", "FAILED", "CRASHED"})
    finally:
        end(worker)
    assert state(prefect_env, run["id"]) == "COMPLETED", (checkout.parent / "worker.log").read_text()[-3000:]
    assert (checkout / ".discern" / "clones" / "scheduled" / "images.txt").exists()
    assert not (checkout / "images.txt").exists()


def scheduled(ask: Ask, of_all: dict[str, Any]) -> list[dict[str, Any]]:
    wanted = {**of_all, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    return list(ask("flow_runs/filter", wanted))
