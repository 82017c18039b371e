"""Progress for people: a bar on a terminal, lines for log readers, nothing otherwise."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from discern.settings import settings


class TrainingProgress:
    """Steps done, images/s, loss beside its chance level, and time left.

    Args:
        name: what is trained.
        steps: length of the run.
        start: steps already done.
        shown: False in all processes but the first.
    """

    def __init__(self, name: str, steps: int, start: int = 0, shown: bool = True) -> None:
        self.steps = steps
        self._mode = settings().progress if shown else "none"
        self._printed = 0.0
        self._bar: Progress | None = None
        self._task = TaskID(0)
        if self._mode == "auto" and sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"), TimeRemainingColumn(),
            )  # fmt: skip
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._task = self._bar.add_task(name, total=steps, completed=start, figures="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(
        self, step: int, loss: float, chance: float | None, images_per_s: float, data_wait: float = 0.0
    ) -> None:
        """Show the state after `step` steps; a share of time spent waiting for images of 5 % or more is told."""
        wait = f" ({data_wait:.0%} waiting for images)" if data_wait >= 0.05 else ""
        level = f" (chance {chance:.2f})" if chance is not None else ""
        if self._bar:
            figures = f"loss {loss:.3f}{level}  {images_per_s:.0f} img/s{wait}"
            self._bar.update(self._task, completed=step, figures=figures)
        elif self._mode == "lines" and (time.monotonic() - self._printed > 1 or step == self.steps):
            self._printed = time.monotonic()
            share = step / self.steps
            known = f" chance {chance:.3f}" if chance is not None else ""
            line = f"progress {share:.3f} loss {loss:.4f}{known} {images_per_s:.0f} img/s{wait}"
            sys.stderr.write(line + "\n")
            sys.stderr.flush()
