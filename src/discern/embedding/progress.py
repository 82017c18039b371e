"""How far the features of a folder are: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections import deque
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from discern.settings import settings

WINDOW_S = 20.0  # images/s of the last so many seconds
EVERY_S = 30.0  # between lines where nobody watches
EVERY_ASKED_S = 1.0  # where DISCERN_PROGRESS=lines asks for them


class EmbeddingProgress:
    """Photographs done, images/s, those that could not be read, and time left.

    Args:
        total: photographs.
        done: by a run before this one.
        skipped: of these, those that could not be read.
    """

    def __init__(self, total: int, done: int = 0, skipped: int = 0) -> None:
        self.total, self.done, self.skipped = total, done, skipped
        self._mode = settings().progress
        self._every = EVERY_ASKED_S if self._mode == "lines" else EVERY_S
        self._printed = time.monotonic()
        self._seen = deque([(self._printed, done)])
        columns = (
            TextColumn("photographs"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"), TimeRemainingColumn(),
        )  # fmt: skip
        self._shown = self._mode == "auto" and sys.stderr.isatty()
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not self._shown, transient=True)
        self._task = self._bar.add_task("", total=total, completed=done, figures="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    @property
    def images_per_s(self) -> float:
        """Speed of late."""
        (began, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / (now - began) if now > began else 0.0

    def update(self, done: int, skipped: int) -> None:
        """Some more photographs are done, and some of all could not be read."""
        self.done, self.skipped, now = done, skipped, time.monotonic()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_S:
            self._seen.popleft()
        unread = f", {skipped:,} skipped" if skipped else ""
        self._bar.update(self._task, completed=done, figures=f"{self.images_per_s:.0f} images/s{unread}")
        if self._shown or self._mode == "none" or now - self._printed < self._every:
            return
        self._printed = now
        line = f"{done:,} of {self.total:,} photographs, {self.images_per_s:.0f} images/s{unread}"
        sys.stderr.write(f"progress {done / self.total:.3f} {line}\n")
        sys.stderr.flush()
