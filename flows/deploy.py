"""Serving the flows on a schedule: `python -m flows.deploy`.

Three deployments: `pipeline/nightly`, `data-check/nightly` and `promotion-check/nightly`. When each runs is set by
the variables below. Pipeline and data check work in a clone of their own, at DISCERN_REVISION (default: the branch
that is checked out here), so this folder may be edited meanwhile.
"""

import os
import subprocess

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.schedules import Cron

from flows.data import data_check
from flows.pipeline import pipeline
from flows.promotion import promotion_check

# Environment variable → when, in cron's notation; the data first, the promotion when the pipeline may be through.
SCHEDULES = {
    "DISCERN_DATA_CRON": "0 2 * * *",
    "DISCERN_CRON": "0 3 * * *",
    "DISCERN_PROMOTION_CRON": "0 7 * * *",
}


def main() -> None:
    """Serve until stopped."""
    data, nightly, promotion = (Cron(os.environ.get(name, when)) for name, when in SCHEDULES.items())
    revision = {"revision": os.environ.get("DISCERN_REVISION", _branch())}
    deployments = [
        RunnerDeployment.from_flow(
            pipeline,
            name="nightly",
            schedule=nightly,
            parameters=revision,
            description="Reproduce the whole pipeline in a clone of its own; DVC runs only what changed.",
        ),
        RunnerDeployment.from_flow(
            data_check,
            name="nightly",
            schedule=data,
            parameters=revision,
            description="Read the data again and put it through the gate.",
        ),
        RunnerDeployment.from_flow(
            promotion_check,
            name="nightly",
            schedule=promotion,
            description="Examine the newest version; promote only on demand.",
        ),
    ]
    # One at a time: two would meet in DVC's locks and on the GPU. Stopping this process must not switch the
    # schedules off for good.
    serve(*deployments, limit=1, pause_on_shutdown=False)


def _branch() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--abbrev-ref", "HEAD"], capture_output=True, text=True, check=False
    )
    name = done.stdout.strip()
    return name if name != "HEAD" else ""


if __name__ == "__main__":
    main()
