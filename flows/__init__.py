"""Prefect: when and where the pipeline runs. Nothing outside this package imports Prefect.

Prefect reads its settings on import, so they are made here, before any module of the package imports it.
"""

import os
import socket
from pathlib import Path

from discern.settings import silence_telemetry

_LOCAL_SERVER = ("127.0.0.1", 4200)  # where `prefect server start` listens


def _configure() -> None:
    silence_telemetry()
    # Nothing is written outside the checkout.
    os.environ.setdefault("PREFECT_HOME", str(Path.cwd() / ".prefect"))
    if "PREFECT_API_URL" not in os.environ and _listens(_LOCAL_SERVER):
        # Without this, runs would go to a temporary server (20 s to start) and not show in the running one.
        os.environ["PREFECT_API_URL"] = "http://{}:{}/api".format(*_LOCAL_SERVER)


def _listens(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=0.5).close()
    except OSError:
        return False
    return True


_configure()
