"""The server works with the versions that are locked: two packages break it silently (see pyproject.toml)."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.flows.conftest import wait_until

Ask = Callable[[str, dict[str, Any]], Any]

# A cron deployment of the real flow, as flows.deploy makes it, without serving it.
DEPLOY = "from flows.pipeline import pipeline; pipeline.to_deployment('listed', cron='0 3 * * *').apply()"


def test_cron_deployment_is_listed_and_scheduled(tmp_path: Path, prefect_env: dict[str, str], ask: Ask) -> None:
    """The first half fails with fastapi >= 0.151, the second with SQLAlchemy >= 2.1."""
    subprocess.run([sys.executable, "-c", DEPLOY], cwd=tmp_path, env=prefect_env, check=True, timeout=600)
    command = [sys.executable, "-m", "prefect", "deployment", "ls"]
    listed = subprocess.run(command, env=prefect_env, capture_output=True, text=True, check=True, timeout=600)
    assert "pipeline/listed" in listed.stdout
    scheduled = {
        "deployments": {"name": {"any_": ["listed"]}},
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
    }
    runs = wait_until(lambda: ask("flow_runs/filter", scheduled))
    assert all("T03:00:00" in run["expected_start_time"] for run in runs)
