"""What MLflow has yet to be told: every message of a stage lies on disk until MLflow has taken it.

A stage deletes its messages when MLflow has answered. Where it did not, they are delivered later: by the next
stage that gets through, or by `discern sync`. Delivering twice, or what is left of half a delivery, is as good as
once: the run is found by its record's id, and every point carries its time and step.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from discern.settings import home, settings, silence_telemetry

Message = dict[str, Any]
MESSAGES, FILES = "messages.jsonl", "files"


def waiting() -> Path:
    """The folder with one entry for each record that MLflow has not taken."""
    return home() / ".discern" / "spool"


class Spool:
    """One stage's messages on disk; locked for as long as the stage lives.

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
        """Write one message; the tracking URI, which may hold a password, stays out."""
        if message["kind"] == "open":
            message = {**message, "target": {**message["target"], "uri": ""}}
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()

    def done(self) -> None:
        """MLflow has everything: forget it."""
        self._file.close()
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def keep(self) -> None:
        """MLflow has not taken everything: keep the messages and a copy of every file that they name."""
        self._file.close()
        messages = list(_read(self.folder))
        for number, message in enumerate(messages):
            key = {"artifact": "path", "dataset": "table"}.get(message["kind"])
            if key and Path(message[key]).exists():
                message[key] = _copy(Path(message[key]), self.folder / FILES / str(number))
        partial = self.folder / f".{MESSAGES}"
        partial.write_text("".join(json.dumps(m) + "\n" for m in messages), encoding="utf-8")
        partial.replace(self.folder / MESSAGES)
        self._lock.release()


@dataclass
class Delivery:
    """What came of delivering: stages whose records MLflow took, and why it stopped where it did."""

    stages: list[str] = field(default_factory=list)
    left: int = 0
    error: str | None = None


def deliver() -> Delivery:
    """Send every waiting record, the oldest first; those of living stages are left alone.

    A record that MLflow refuses is passed over; a server that does not answer at all ends it.
    """
    found = Delivery()
    folders = sorted((p for p in waiting().glob("*") if p.is_dir()), key=lambda p: (p.stat().st_mtime, p.name))
    for folder in folders:
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except (Timeout, OSError):  # of a living stage, or delivered by somebody else just now
            continue
        try:
            stage, error, answers = _deliver(folder)
            if error is None:
                shutil.rmtree(folder, ignore_errors=True)
                found.stages.append(stage)
            else:
                found.left += 1
                found.error = error
        finally:
            lock.release()
        if not answers:
            found.left += len(folders) - folders.index(folder) - 1
            break
    return found


def deliver_in_background() -> None:
    """Start a process that delivers what waits, if anything does, and outlives this one."""
    if any(_is_free(lock) for lock in waiting().glob("*/lock")):
        env = {**os.environ, "OMP_NUM_THREADS": "1", "DISCERN_PIPELINE": ""}
        null = subprocess.DEVNULL
        command = [sys.executable, "-m", "discern.tracking.spool"]
        subprocess.Popen(command, stdin=null, stdout=null, stderr=null, env=env, start_new_session=True)


def _deliver(folder: Path) -> tuple[str, str | None, bool]:
    """The stage of a record, why MLflow did not take it, and whether there was an answer at all."""
    from discern.tracking.writer import KILLED, Writer

    writer, stage, finished = Writer(quiet=True), "", False
    for message in _read(folder):
        if message["kind"] == "open":
            stage = str(message["target"]["stage"])
            message["target"]["uri"] = settings().resolved_tracking_uri
        finished |= message["kind"] == "finish"
        path = message.get("path") or message.get("table")
        if path is None or Path(path).exists():  # files of a stage that was killed outright may be gone
            writer.handle(message)
    if stage and not finished:
        writer.handle(dict(KILLED))
    return stage, writer.error, writer.run is not None or not stage


def _read(folder: Path) -> Iterator[Message]:
    """Messages as they were sent; half a line of a stage that was killed is left out."""
    path = folder / MESSAGES
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []:
        if line.endswith("\n"):
            yield json.loads(line)


def _copy(path: Path, folder: Path) -> str:
    folder.mkdir(parents=True)
    kept = folder / path.name
    if path.is_dir():
        shutil.copytree(path, kept)
    else:
        shutil.copy2(path, kept)
    return str(kept)


def _is_free(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return True
    except (Timeout, OSError):
        return False


if __name__ == "__main__":
    silence_telemetry()
    deliver()
