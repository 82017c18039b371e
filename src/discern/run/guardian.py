"""A stage whose dvc or flow is gone stops with its checkpoint saved, instead of living on unseen.

A kill without warning (kill -9, memory run out) takes dvc or the flow, and leaves the training to run for
hours on outputs that nobody will record, beside the next run that trains the same again.
"""

import os
import signal
import sys
import threading
import time
from contextlib import suppress

import psutil

from discern.tracking import provenance

SECONDS = 2.0  # between two looks
WATCHED = "DISCERN_WATCHED_PID"  # of the process that started dvc, e.g. a flow's


def watch() -> None:
    """From now on, stop this process by SIGTERM when dvc, or whoever started dvc, has ended."""
    watched = [process for process in (provenance.dvc_process(), _named()) if process is not None]
    if watched:
        threading.Thread(target=_look, args=(watched,), daemon=True, name="guardian").start()


def _named() -> psutil.Process | None:
    try:
        return psutil.Process(int(os.environ[WATCHED]))
    except (KeyError, ValueError, psutil.Error):
        return None


def _look(watched: list[psutil.Process]) -> None:
    # is_running compares the time of creation: another process with the number of a dead one does not fool it.
    while all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in watched):
        time.sleep(SECONDS)
    with suppress(OSError):  # whoever read this may be gone as well
        sys.stderr.write("discern: the process that started this stage is gone; stopping\n")
    os.kill(os.getpid(), signal.SIGTERM)
