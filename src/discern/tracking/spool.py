"""A stage's record on disk: one message a line, and what the messages name, until MLflow has taken it.

The stage only appends; `deliver` brings it to MLflow, while the stage runs or later.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from discern.settings import home

Message = dict[str, Any]
MESSAGES, FILES = "messages.jsonl", "files"


def waiting() -> Path:
    """The folder with one entry for each record that MLflow has not taken."""
    return home() / ".discern" / "spool"


class Spool:
    """One stage's messages; locked for as long as the stage lives.

    Args:
        record: id of the stage's record, by which its run is found.
    """

    def __init__(self, record: str) -> None:
        self.folder = waiting() / record
        self.folder.mkdir(parents=True)
        self._lock = FileLock(self.folder / "lock")
        self._lock.acquire()
        self._file = (self.folder / MESSAGES).open("a", encoding="utf-8")

    def append(self, message: Message) -> None:
        """Write one message."""
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()

    def close(self, taken: bool) -> None:
        """The stage ends.

        Args:
            taken: MLflow has everything. Otherwise the messages stay, with a copy of every file that they name.
        """
        self._file.close()
        if taken:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            self._copy_files()
        self._lock.release()

    def _copy_files(self) -> None:
        messages = list(Messages(self.folder))
        for number, message in enumerate(messages):
            key = {"artifact": "path", "dataset": "table"}.get(message["kind"])
            if key and Path(message[key]).exists():
                message[key] = _copy(Path(message[key]), self.folder / FILES / str(number))
        partial = self.folder / f".{MESSAGES}"
        partial.write_text("".join(json.dumps(m) + "\n" for m in messages), encoding="utf-8")
        partial.replace(self.folder / MESSAGES)


class Messages:
    """The messages of a record, as far as they are written: read on as often as wanted.

    Half a line, of a stage that writes just now or was killed, is left for later.

    Args:
        folder: of the record.
    """

    def __init__(self, folder: Path) -> None:
        self._path, self._at = folder / MESSAGES, 0

    def __iter__(self) -> Iterator[Message]:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if line.endswith(b"\n"):
                    self._at += len(line)
                    yield json.loads(line)


def lives(folder: Path) -> bool:
    """Whether the stage of a record still runs: it holds the lock."""
    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _copy(path: Path, folder: Path) -> str:
    folder.mkdir(parents=True)
    kept = folder / path.name
    if path.is_dir():
        shutil.copytree(path, kept)
    else:
        shutil.copy2(path, kept)
    return str(kept)
