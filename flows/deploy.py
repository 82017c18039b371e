"""Serving the pipeline on a schedule: `python -m flows.deploy`.

DISCERN_CRON sets when (default 03:00 every day); `prefect deployment run pipeline/nightly` runs it now. Runs
work in this folder, one at a time: give a schedule a clone of its own, sharing the DVC cache, rather than the
folder that somebody edits.
"""

import os

from flows.pipeline import pipeline


def main() -> None:
    """Serve until stopped."""
    pipeline.serve(
        name="nightly",
        cron=os.environ.get("DISCERN_CRON", "0 3 * * *"),
        limit=1,  # two runs in one checkout would meet in DVC's locks
        pause_on_shutdown=False,  # stopping this process must not switch the schedule off for good
        description="Reproduce the whole pipeline; DVC runs only what changed.",
    )


if __name__ == "__main__":
    main()
