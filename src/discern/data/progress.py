"""Progress bars of the data stages, and work spread over threads in bounded memory."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from discern.machine import allowed_threads
from discern.settings import settings

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def progress(
    description: str, total: int | None, *, done: int = 0, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, lines where `settings().progress` asks for them, nothing otherwise.

    Args:
        description: what is being done.
        total: how much there is to do; None where nobody knows.
        done: how much was done before, by a run that was cut off.
        in_bytes: true for bytes, false for items.

    Yields:
        The function that moves it on by an amount.
    """
    amount: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if in_bytes:
        amount = (DownloadColumn(), TransferSpeedColumn())
    mode = settings().progress
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn(),
        console=Console(stderr=True), disable=mode != "auto" or not sys.stderr.isatty(), transient=True,
    )  # fmt: skip
    task = bar.add_task(description, total=total, completed=done)
    printed = 0.0

    def advance(amount: int) -> None:
        nonlocal printed
        bar.advance(task, amount)
        completed = bar.tasks[task].completed
        if mode == "lines" and total and (time.monotonic() - printed > 1 or completed >= total):
            printed = time.monotonic()
            sys.stderr.write(f"progress {completed / total:.3f} {description}\n")
            sys.stderr.flush()

    with bar:
        yield advance


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], description: str, total: int
) -> Iterator[Result]:
    """The results of `function`, in the order of `items`, computed in threads, with a bar.

    Pillow and hashlib let other threads run while they work.
    """
    workers = allowed_threads()
    with progress(description, total) as advance:
        for result in in_threads(function, items, workers, ahead=4 * workers):
            yield result
            advance(1)


def in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    ahead: int,
    initializer: Callable[[], object] | None = None,
) -> Iterator[Result]:
    """The results of `function`, in the order of `items`, computed in threads.

    Only a few items are under way at once: `Executor.map` would submit all of them first, which for a million
    images is a gigabyte of futures.

    Args:
        function: called from several threads.
        items: taken as they are needed, in the caller's thread; may be endless.
        workers: number of threads.
        ahead: items under way or finished and not yet asked for, at most.
        initializer: called in every thread first.
    """
    waiting: deque[Future[Result]] = deque()
    executor = ThreadPoolExecutor(workers, initializer=initializer)
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
