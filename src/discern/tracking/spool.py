"""A stage's record on disk: messages and files lie in .discern/spool/RECORD until MLflow has taken them.

The stage appends, and holds the lock for as long as it lives; whoever delivers reads along. Only who holds the
lock may remove a record.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from discern.settings import home

Message = dict[str, Any]
MESSAGES, LOCK = "messages.jsonl", "lock"
POLL_SECONDS = 0.1  # between two looks for new messages


def waiting() -> Path:
    """The folder with one entry for each record that MLflow has not taken."""
    return home() / ".discern" / "spool"


class Spool:
    """The record of a living stage, to be written.

    Args:
        record: its id, by which its run is found; ids of later records come later in the alphabet.
    """

    def __init__(self, record: str) -> None:
        self.folder = waiting() / record
        self._files = 0
        self.folder.mkdir(parents=True)
        self._lock = FileLock(self.folder / LOCK)
        self._lock.acquire()  # before there are messages: a record without them is nobody's to deliver
        self._messages = (self.folder / MESSAGES).open("a", encoding="utf-8")

    def append(self, message: Message) -> None:
        """Write one message, and be done with it; paths in it are of this record's files."""
        line = json.dumps(message, default=lambda path: path.relative_to(self.folder).as_posix())
        self._messages.write(line + "\n")
        self._messages.flush()

    def place(self, name: str) -> Path:
        """Where a new file of this record goes."""
        folder = self.folder / "files" / str(self._files)
        folder.mkdir(parents=True)
        self._files += 1
        return folder / name

    def close(self, delivered: bool) -> None:
        """Leave the record to others, or remove it."""
        self._messages.close()
        if delivered:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()


def follow(folder: Path, is_over: Callable[[], bool]) -> Iterator[Message | None]:
    """Messages in their order, as they are appended, until the stage is over and all are read.

    Half a line of a stage that was killed is left out. None comes where there is nothing new.

    Args:
        folder: of the record.
        is_over: whether nothing will be appended any more; asked only where there is nothing new.
    """
    over, line = False, b""
    with (folder / MESSAGES).open("rb") as messages:
        while True:
            line += messages.readline()
            if line.endswith(b"\n"):
                yield json.loads(line)
                line = b""
            elif over:  # said before the last look: nothing came in between
                return
            elif not (over := is_over()):
                yield None
                time.sleep(POLL_SECONDS)
