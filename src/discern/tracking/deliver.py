"""Bringing records to MLflow: that of a living stage as it grows, and whatever else waits.

`python -m discern.tracking.deliver RECORD` runs beside a stage, which so never waits for MLflow: its import takes
four seconds of CPU, and a server may be slow or dead. It answers with one line once the record is through:
`{"run_id": …, "parent_run_id": …, "error": null}`. Delivering twice, or the rest of half a delivery, is as good as
once: the run is found by its record's id, and every point carries its time and step.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from discern.settings import settings, silence_telemetry
from discern.tracking.spool import Message, Messages, lives, waiting
from discern.tracking.writer import KILLED, Writer

POLL_SECONDS = 0.5  # between two looks for new messages of a living stage


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
            writer, stage = tell(Messages(folder), quiet=True)
            if writer.error is None:
                shutil.rmtree(folder, ignore_errors=True)
                found.stages.append(stage)
            else:
                found.left += 1
                found.error = writer.error
        finally:
            lock.release()
        if stage and writer.run is None:
            found.left += len(folders) - folders.index(folder) - 1
            break
    return found


def tell(messages: Messages | Iterator[Message | None], quiet: bool = False) -> tuple[Writer, str]:
    """Carry out the messages of one record.

    Args:
        messages: in order; None: nothing new for a moment.
        quiet: do not tell people when MLflow fails.

    Returns:
        The writer, with the run and what MLflow said, and the stage's name.
    """
    writer, stage, finished = Writer(quiet), "", False
    for message in messages:
        if message is not None:
            if message["kind"] == "open":
                stage = str(message["target"]["stage"])
                # It may hold a password, so it is not on the disk.
                message["target"]["uri"] = settings().resolved_tracking_uri
            finished |= message["kind"] == "finish"
            path = message.get("path") or message.get("table")
            if path is None or Path(path).exists():  # files of a stage that was killed outright may be gone
                writer.handle(message)
        writer.flush(only_if_due=True)
    if stage and not finished:
        writer.handle(KILLED)
    return writer, stage


def follow(folder: Path) -> Iterator[Message | None]:
    """The messages of a stage's record as they come; ends with its last word, or when the stage is gone."""
    messages = Messages(folder)
    while folder.is_dir():
        alive = lives(folder)  # before the last look: what it wrote before it ended is read
        for message in messages:
            yield message
            if message["kind"] == "finish":
                return
        if not alive:
            return
        yield None
        time.sleep(POLL_SECONDS)


def main(record: str) -> None:
    """Deliver the record of the stage that started this process, then what else waits."""
    silence_telemetry()
    folder = waiting() / record
    # Libraries print to standard output; keep it for the answer, which a killed stage does not hear.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        writer, _ = tell(follow(folder))
        run = writer.run
        told = {"run_id": run and run.run_id, "parent_run_id": run and run.parent_id, "error": writer.error}
        answer.write(json.dumps(told) + "\n")
    # Whoever reads what the stage says need not wait for other stages' records.
    with Path(os.devnull).open("w", encoding="utf-8") as nobody:
        os.dup2(nobody.fileno(), 1)
        os.dup2(nobody.fileno(), 2)
    if writer.error is None:
        if not lives(folder):  # nobody is left who would
            shutil.rmtree(folder, ignore_errors=True)
        deliver()


if __name__ == "__main__":
    main(sys.argv[1])
