"""The pipeline as a Prefect flow: DVC's stages as tasks, in the order of DVC's own graph.

DVC decides what is stale and keeps the files; Prefect decides when to run, shows what happens, and stops all
of it when the run is cancelled. `python -m flows.pipeline --set train_encoder.pair_weight=0.5` runs it here.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events.worker import EventsWorker
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Completed

from discern.errors import DiscernError
from discern.params.edit import Edit
from discern.settings import settings
from discern.tracking import run_record
from discern.workspace import Workspace
from flows import dvc
from flows.clone import own_clone, work_in
from flows.pictures import publish_results
from flows.server import meet_server
from flows.side_by_side import run_all, share_threads, task_runner

PROGRESS = re.compile(r"\bprogress (\d(?:\.\d+)?)\b *(.*)")  # what training prints, once a second
FETCHING = {"download"}  # the only stages that a second try can help
TRAINING = ("pretrain", "train")  # tagged `gpu`, for a limit: `prefect concurrency-limit create gpu 1`


@task(task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: str, force: bool, pipeline: str) -> State[None]:
    """Run one DVC stage; the task is called Cached where DVC had no need to run its command."""
    log = get_run_logger()
    show_progress = _Progress(stage)

    def on_line(line: str) -> None:
        if match := PROGRESS.search(line):
            show_progress(float(match[1]), match[2])
        elif line:
            log.info(line)

    dvc.reproduce(stage, force, pipeline, on_line)
    if _was_executed(stage, pipeline):
        show_progress.complete()
        return Completed(message=f"{stage} ran")
    return Completed(name="Cached", message=f"{stage} did not change, or came from DVC's cache")


@flow(name="pipeline", validate_parameters=True, task_runner=task_runner())
def pipeline(
    overrides: list[str] = [],  # noqa: B006  never changed; None would make the form of the UI ask for a null
    targets: list[str] = [],  # noqa: B006  never changed, as above
    force: bool = False,
    revision: str = "",
) -> None:
    """Reproduce the pipeline in the current folder, or in a clone of its own.

    Like `dvc exp run` in the workspace, overrides stay in params.yaml afterwards. Two runs must not share a
    checkout; `flows.deploy` sees to that.

    Args:
        overrides: key=value, or methods/NAME.yaml:key=value, as in `dvc exp run -S`; the files are changed.
        targets: stages to reproduce, with all they depend on; empty: the whole pipeline.
        force: run every stage, even where nothing changed.
        revision: commit, tag or branch to run in a clone of its own; empty: this folder as it lies here.
    """
    run_id = str(flow_run.id)
    if revision:
        work_in(own_clone(Path.cwd(), revision))
    if overrides:
        edit = Edit(Path.cwd())
        for override in overrides:
            edit.assign(override)
        edit.write()
    stages = dvc.stages_in_order(targets)
    get_run_logger().info("%d stages: %s", len(stages), " ".join(stages))
    cached: list[str] = []
    status = "KILLED"  # unless something below says otherwise

    def submit(stage: str) -> PrefectFuture[Any]:
        tags = {"gpu"} if stage.startswith(TRAINING) else set()
        retries = 2 if stage in FETCHING else 0
        this = run_stage.with_options(tags=tags, retries=retries, retry_delay_seconds=10)
        return this.submit(stage, force, run_id)

    share_threads()
    try:
        states = run_all(stages, dvc.needs(), submit, settings().workers)
        cached = [stage for stage, state in states.items() if state.name == "Cached"]
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        dvc.stop_all()  # where the run was cancelled, stages are still running
        mlflow_run = _close_mlflow_run(run_id, status, cached)
    if "report" in stages:
        publish_results(Path.cwd(), mlflow_run)


class _Progress:
    """The progress bar of one task in Prefect's UI, made with its first value."""

    def __init__(self, stage: str) -> None:
        self._key = "progress-" + re.sub(r"[^a-z0-9]+", "-", stage.lower())
        self._stage = stage
        self._artifact: UUID | None = None
        self._sent = 0.0

    def __call__(self, share: float, text: str) -> None:
        """Show `share` in [0, 1] and the line that came with it, every two seconds at most."""
        if time.monotonic() - self._sent < 2:
            return
        self._sent = time.monotonic()
        if self._artifact is None:
            made = create_progress_artifact(100 * share, key=self._key, description=self._stage)
            assert isinstance(made, UUID)  # a coroutine only where it is awaited
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, 100 * share, description=f"{self._stage}: {text}")

    def complete(self) -> None:
        """Show the whole bar, where there is one."""
        if self._artifact is not None:
            update_progress_artifact(self._artifact, 100.0, description=self._stage)


def _was_executed(stage: str, pipeline: str) -> bool:
    record = Workspace(Path.cwd()).run_record(stage)
    # DVC restores the record of the run that made the results, so a cached stage names another pipeline.
    return not record.is_file() or run_record.load(record).pipeline == pipeline


def _close_mlflow_run(run_id: str, status: str, cached: list[str]) -> dict[str, str | None]:
    if not settings().tracking:
        return {}
    # In a process of its own: MLflow takes four seconds to import and must not fail the flow.
    command = [sys.executable, "-m", "discern.tracking.pipeline", run_id, status, *cached]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        run: dict[str, str | None] = json.loads(result.stdout.splitlines()[-1])
    except (subprocess.SubprocessError, ValueError, IndexError) as error:
        get_run_logger().warning("the MLflow run of this pipeline was not completed: %s", error)
        return {}
    return run


def main() -> int:
    """Run the flow here, without a deployment."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Run the pipeline by Prefect.")
    add = parser.add_argument
    about = "change a parameter, e.g. methods/moco.yaml:queue=64; may be repeated"
    add("--set", action="append", default=[], metavar="[FILE:]KEY=VALUE", help=about)
    add("--target", action="append", default=[], metavar="STAGE", help="reproduce only this; may be repeated")
    add("--force", action="store_true", help="run every stage, even where nothing changed")
    options = parser.parse_args()
    try:
        meet_server()
        pipeline(overrides=options.set, targets=options.target, force=options.force)
    except (dvc.DvcError, DiscernError) as error:
        EventsWorker.drain_all()  # else Prefect may tell of its queue after the one line that matters
        sys.stderr.write(f"discern: ERROR {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
