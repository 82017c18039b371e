"""Bringing records to MLflow: beside a stage while it writes its own, or later.

`python -m discern.tracking.deliver RECORD PID` runs beside the stage PID. Importing MLflow takes four seconds of
CPU, and a server may be slow or dead: in a process of its own neither delays a training step, and a stage that is
killed outright still leaves a run marked FAILED. When the record is through, one line goes to standard output,
`{"run_id": …, "parent_run_id": …, "error": null}`; then what earlier stages left is delivered.

Delivering twice, or what is left of half a delivery, is as good as once: the run is found by its record's id, and
every point carries its time and step.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from discern.settings import home, settings, silence_telemetry
from discern.tracking.provenance import redacted
from discern.tracking.spool import LOCK, MESSAGES, Message, follow, waiting

if TYPE_CHECKING:
    from discern.tracking.mlflow_store import Point, StageRun

BATCH_POINTS = 200
BATCH_SECONDS = 5.0
ORPHAN_SECONDS = 30.0  # processes that a killed stage forked keep its lock until they notice

# What is said for a stage that cannot say it any more.
KILLED: Message = {"kind": "finish", "status": "FAILED", "tags": {"discern.end": "killed"}, "reused": {}}


class Delivery:
    """One record on its way to MLflow; the first failure ends it.

    Args:
        folder: of the record.

    Attributes:
        stage: id of the stage; empty until its first message.
        run: in MLflow; None until the server has answered.
        error: why MLflow does not take the record, without passwords.
    """

    def __init__(self, folder: Path) -> None:
        self.stage = ""
        self.run: StageRun | None = None
        self.error: str | None = None
        self._folder = folder
        self._points: list[Point] = []
        self._sent = time.monotonic()

    @property
    def is_answered(self) -> bool:
        """False where the server said nothing at all: asking it for another record is of no use."""
        return self.run is not None or self.error is None

    def carry(self, messages: Iterable[Message | None]) -> None:
        """Do what messages ask, up to `finish`."""
        try:
            for message in messages:
                if message:
                    self._do(**message)
                if len(self._points) >= BATCH_POINTS or time.monotonic() - self._sent > BATCH_SECONDS:
                    self._send_points()
                if message and message["kind"] == "finish":
                    return
        except Exception as error:  # whatever MLflow dies of, the stage's result must not depend on it
            text = f"{type(error).__name__}: {error}"
            self.error = redacted(text, settings().resolved_tracking_uri)[:300]

    def _do(self, kind: str, **content: Any) -> None:
        if kind == "metrics" and not content.get("of_pipeline"):
            self._points += content["points"]
            return
        self._send_points()
        if kind == "open":
            self._open(**content)
        elif self.run:  # else the stage was killed before it had said anything
            if "path" in content:
                content["path"] = str(self._folder / content["path"])
            getattr(self.run, kind)(**content)

    def _open(self, target: Message, params: dict[str, str], all_params: dict[str, str]) -> None:
        from discern.tracking.mlflow_store import StageRun, Target

        self.stage = target["stage"]
        here = {"uri": settings().resolved_tracking_uri, "home": home()}
        self.run = StageRun(Target(**{**target, **here}))
        self.run.params(params, all_params)

    def _send_points(self) -> None:
        points, self._points, self._sent = self._points, [], time.monotonic()
        if points and self.run:
            self.run.metrics(points)


@dataclass
class Delivered:
    """What came of delivering: stages whose records MLflow took, how many it did not take, and why."""

    stages: list[str] = field(default_factory=list)
    left: int = 0
    error: str | None = None


def deliver(own: Path | None = None) -> Delivered:
    """Bring every waiting record to MLflow, the oldest first; those of living stages are left alone.

    A stage that left a record without its end was killed, and its run ends as FAILED. A record that MLflow refuses
    is passed over; a server that does not answer at all ends it.

    Args:
        own: a record whose stage has just been killed: its lock is waited for.
    """
    found = Delivered()
    # Their names begin with the time of their start.
    folders = sorted(path.parent for path in waiting().glob(f"*/{MESSAGES}"))
    for number, folder in enumerate(folders):
        try:
            held = FileLock(folder / LOCK).acquire(timeout=ORPHAN_SECONDS if folder == own else 0)
        except (Timeout, OSError):  # of a living stage, or delivered by somebody else just now
            continue
        with held:
            delivery = Delivery(folder)
            if (folder / MESSAGES).exists():  # else delivered between the two looks
                delivery.carry(chain(follow(folder, is_over=lambda: True), [KILLED]))
            if delivery.error is None:
                shutil.rmtree(folder, ignore_errors=True)
                found.stages.append(delivery.stage)
            else:
                found.left, found.error = found.left + 1, delivery.error
        if not delivery.is_answered:
            found.left += len(folders) - number - 1
            break
    return found


def main(record: str, stage: int) -> None:
    """Deliver the record of a living stage as it is written, answer, and deliver what else waits.

    Args:
        record: its id.
        stage: id of the stage's process, which started this one.
    """
    silence_telemetry()
    folder = waiting() / record
    delivery = Delivery(folder)
    # Libraries print to standard output; keep it for the answer, which a killed stage does not hear.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        delivery.carry(follow(folder, is_over=lambda: os.getppid() != stage))
        if delivery.error:
            sys.stderr.write(
                f"discern: MLflow does not take the record of this stage: {delivery.error}; it waits in"
                " .discern/spool, and the next stage or `discern sync` delivers it\n"
            )
        run = delivery.run
        ids = {"run_id": run and run.run_id, "parent_run_id": run and run.parent_id}
        answer.write(json.dumps({**ids, "error": delivery.error}) + "\n")
    # Whoever reads what the stage says waits for the end of its output; it must not wait for the rest as well.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    if delivery.is_answered:
        deliver(own=folder if os.getppid() != stage else None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
