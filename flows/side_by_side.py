"""Stages that do not need each other, run at the same time: seeds and methods on threads, or on a Dask cluster."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from discern.errors import SettingsError
from discern.machine import shared_environment
from discern.settings import settings

Submit = Callable[[str], PrefectFuture[Any]]


def task_runner() -> TaskRunner[Any]:
    """What runs the stages: DISCERN_WORKERS threads, or the Dask cluster of DISCERN_DASK.

    Raises:
        SettingsError: DISCERN_DASK is set, and prefect-dask is not installed.
    """
    try:
        workers, dask = settings().workers, settings().dask
    except SettingsError:  # told by the flow when it starts; this runs when it is imported
        return ThreadPoolTaskRunner(max_workers=1)
    if dask is None:
        return ThreadPoolTaskRunner(max_workers=workers)
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise SettingsError("DISCERN_DASK needs prefect-dask: `uv pip install discern[cluster]`") from error
    # Every worker is a process of its own and runs one stage at a time.
    local = {"cluster_kwargs": {"n_workers": workers, "threads_per_worker": 1}}
    runner: TaskRunner[Any] = DaskTaskRunner(**(local if dask == "local" else {"address": dask}))
    return runner


def share_threads() -> None:
    """Divide this machine's threads among the stages that run at the same time."""
    if settings().workers > 1:
        os.environ.update(shared_environment(settings().workers))
        os.environ["DISCERN_THREADS"] = os.environ["OMP_NUM_THREADS"]


def run_all(stages: list[str], needs: Mapping[str, set[str]], submit: Submit, limit: int) -> dict[str, Any]:
    """Start every stage as soon as those that it needs have ended; returns the states by stage.

    After a failure nothing more is started; what runs already ends first.

    Args:
        stages: in an order in which they could run one by one.
        needs: stages that each one needs; those that are not among `stages` do not count.
        submit: starts one.
        limit: stages that run at the same time. None is handed over before there is room for it: one that waits in
            the task runner's queue would still be started after a failure or a cancellation.

    Raises:
        Exception: of the first stage that failed.
    """
    waiting = {stage: needs.get(stage, set()) & set(stages) for stage in stages}
    running: dict[PrefectFuture[Any], str] = {}
    states: dict[str, Any] = {}
    failed: Any = None
    while running or (waiting and failed is None):
        if failed is None:
            ready = [stage for stage, left in waiting.items() if left <= states.keys()]
            for stage in ready[: limit - len(running)]:
                del waiting[stage]
                running[submit(stage)] = stage
        done = next(iter(as_completed(list(running))))
        stage = running.pop(done)
        done.wait()  # from the server, its state would come without the exception
        if done.state.is_completed():
            states[stage] = done.state
        elif failed is None:
            failed = done.state
    if failed is not None:
        failed.result()  # raises
    return states
