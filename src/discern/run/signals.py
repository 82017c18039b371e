"""Stopping a stage: SIGTERM and Ctrl-C end it with its checkpoint saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from discern.errors import InterruptedStageError

_deferred = False
_requested = False


def install() -> None:
    """Handle SIGTERM and SIGINT in this process, from its main thread."""
    signal.signal(signal.SIGTERM, _handle)
    signal.signal(signal.SIGINT, _handle)


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a signal only sets `stop_requested()`: a training loop ends at its next step, not within one.

    Raises:
        InterruptedStageError: on leaving the block, when a signal came and nobody inside answered it.
    """
    global _deferred
    stopping = _requested
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    if not stopping:
        check()


def stop_requested() -> bool:
    """Whether a signal asked this stage to stop."""
    return _requested


def check() -> None:
    """Stop here if a signal asked for it.

    Raises:
        InterruptedStageError: it did.
    """
    if _requested:
        raise InterruptedStageError("stopped by a signal")


def _handle(number: int, _frame: FrameType | None) -> None:
    global _requested
    if _requested:  # a second signal: whoever waits for the checkpoint waits no longer
        raise KeyboardInterrupt(signal.Signals(number).name)
    _requested = True
    if not _deferred:
        check()
