"""DVC as a subprocess: the stage graph, and one stage with everything it starts under control.

Only public commands are used: DVC's Python API is no public interface and does not lock between threads.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from discern.run.guardian import WATCHED

# Prefect's runner kills a cancelled flow after 30 s; what the flow started has to be gone before.
GRACE_SECONDS = 20.0

_running: set["subprocess.Popen[str]"] = set()


class DvcError(Exception):
    """A dvc command failed; its output says why."""


def stages_in_order(targets: list[str]) -> list[str]:
    """Stages of the pipeline, each after those it depends on.

    Args:
        targets: stages, or groups of a matrix (`evaluate` for every `evaluate@…`); only they and what they
            depend on are returned. Empty: all stages.

    Raises:
        DvcError: a target does not exist, or dvc.yaml cannot be read.
    """
    names = output("stage", "list", "--name-only").split()
    before = needs()
    wanted = [name for target in targets or names for name in _matching(target, names)]
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for need in sorted(before.get(name, ()), key=names.index):
            visit(need)
        order.append(name)

    for name in sorted(set(wanted), key=names.index):
        visit(name)
    return order


def needs() -> dict[str, set[str]]:
    """Stages that each stage needs, by DVC's own graph."""
    found: dict[str, set[str]] = {}
    for before, after in re.findall(r'^"(.+)" -> "(.+)";$', output("dag", "--dot"), flags=re.MULTILINE):
        found.setdefault(after, set()).add(before)
    return found


def _matching(target: str, names: list[str]) -> list[str]:
    found = [name for name in names if target in (name, name.partition("@")[0])]
    if not found:
        raise DvcError(f"{target}: no such stage; `dvc stage list` shows them")
    return found


def output(*args: str) -> str:
    """Standard output of one short dvc command.

    Raises:
        DvcError: it failed.
    """
    command = [sys.executable, "-m", "dvc", *args]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if result.returncode:
        raise DvcError(f"dvc {' '.join(args)}: {' '.join(result.stderr.split())}")
    return result.stdout


def reproduce(stage: str, force: bool, pipeline: str, on_line: Callable[[str], None]) -> None:
    """Run one stage as `dvc repro --single-item` does.

    Args:
        stage: its name.
        force: run it even when nothing changed.
        pipeline: id that makes the stages of one flow run children of one MLflow run.
        on_line: gets each line that the stage prints.

    Raises:
        DvcError: the stage failed.
    """
    command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage]
    # A session of its own, so that the whole of it can be stopped: a signal to dvc alone leaves the training
    # running, unseen, on an output that DVC has already deleted.
    process = subprocess.Popen(
        command + ["--force"] * force,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        bufsize=1,
        start_new_session=True,
        env={
            "DISCERN_PROGRESS": "lines",  # which become the progress bar in Prefect's UI
            **environment(),
            "DISCERN_PIPELINE": pipeline,
            # A flow that is killed outright can stop nothing: the stage watches it instead.
            WATCHED: str(os.getpid()),
        },
    )
    assert process.stdout is not None
    _running.add(process)
    try:
        for line in process.stdout:
            on_line(line.rstrip())
        code = process.wait()
    except BaseException:  # cancellation is no Exception in Prefect
        stop_session(process)
        raise
    finally:
        _running.discard(process)
    if code:
        raise DvcError(f"stage {stage} failed (exit code {code}); its own lines above say why")


def stop_all() -> None:
    """Stop every stage that runs in this process; those that are started on threads hear of no cancellation."""
    for process in list(_running):
        with suppress(ProcessLookupError):
            stop_session(process)


def stop_session(leader: subprocess.Popen[str], grace: float = GRACE_SECONDS) -> None:
    """Stop a process and everything in its session: politely, and after `grace` seconds for good."""
    os.killpg(leader.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while _has_members(leader.pid):
        if time.monotonic() > deadline:
            os.killpg(leader.pid, signal.SIGKILL)
            break
        # Not psutil's wait: it would collect the leader's exit code, and Popen then takes it for 0.
        time.sleep(0.1)
    leader.wait()


def _has_members(group: int) -> bool:
    for process in psutil.process_iter(["status"]):
        try:
            # An orphan whose new parent never collects it stays a zombie; it runs no more.
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                return True
        except (ProcessLookupError, PermissionError):
            continue
    return False


def environment() -> dict[str, str]:
    """This environment, with this Python first on PATH: stages are started as `python -m …`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
