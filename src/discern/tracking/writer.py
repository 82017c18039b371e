"""The process beside a stage that talks to MLflow, so that the stage never waits for it.

Importing MLflow takes four seconds of CPU and a server may be slow or dead; in a process of its own neither
delays a training step, and a stage that is killed outright still leaves a run marked FAILED.

It reads one JSON message a line from standard input (see `Recorder`), and answers with one line at the end:
`{"run_id": …, "parent_run_id": …, "error": null}`.
"""

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from discern.tracking.provenance import redacted

BATCH_POINTS = 200
BATCH_SECONDS = 5.0

# What is said for a stage that cannot say it any more.
KILLED = {"kind": "finish", "status": "FAILED", "tags": {"discern.end": "killed"}, "reused": {}}

Message = dict[str, Any]
Point = tuple[str, float, int, int]


class Writer:
    """Carries out messages until one fails; after that it only remembers why.

    Args:
        quiet: do not tell people when MLflow fails.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self.run: Any = None
        self.error: str | None = None
        self._uri = ""  # may hold a password, which errors must not tell
        self._points: list[Point] = []
        self._sent = time.monotonic()

    def handle(self, message: Message) -> None:
        """Do what one message asks."""
        if self.error:
            return
        kind = message.pop("kind")
        try:
            if kind == "metrics":
                self._points += [tuple(point) for point in message["points"]]
            else:
                self.flush()
                getattr(self, f"_{kind}")(**message)
        except Exception as error:  # whatever MLflow dies of, the stage's result must not depend on it
            self._give_up(error)

    def flush(self, only_if_due: bool = False) -> None:
        """Send the metrics collected so far."""
        due = len(self._points) >= BATCH_POINTS or time.monotonic() - self._sent > BATCH_SECONDS
        if self.error or not self._points or (only_if_due and not due):
            return
        points, self._points, self._sent = self._points, [], time.monotonic()
        try:
            self.run.metrics(points)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.error = redacted(f"{type(error).__name__}: {error}", self._uri)[:300]
        if not self._quiet:
            sys.stderr.write(
                f"discern: MLflow does not take the record of this stage: {self.error}; it waits in"
                " .discern/spool, and the next stage or `discern sync` delivers it\n"
            )

    def _open(self, target: Message, params: dict[str, str], all_params: dict[str, str]) -> None:
        from discern.tracking.mlflow_store import StageRun, Target

        self._uri = target["uri"]
        self.run = StageRun(Target(**{**target, "home": Path(target["home"])}))
        self.run.params(params, all_params)

    def _artifact(self, path: str, folder: str, of_pipeline: bool) -> None:
        self.run.artifact(Path(path), folder, of_pipeline)

    def _text(self, text: str, name: str) -> None:
        self.run.text(text, name)

    def _pipeline_metrics(self, points: list[list[Any]]) -> None:
        self.run.metrics([tuple(point) for point in points], of_pipeline=True)

    def _dataset(self, table: str, name: str, digest: str, context: str) -> None:
        self.run.dataset(Path(table), name, digest, context)

    def _finish(self, status: str, tags: dict[str, str], reused: dict[str, str]) -> None:
        self.run.finish(status, tags, reused)


def _messages(source: IO[str]) -> Iterator[Message | None]:
    """Messages as they come, None once a second without one, the end when the stage closes the pipe.

    A thread takes them off the pipe at once: a full pipe would block the stage.
    """
    inbox: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in source:
            inbox.put(line)
        inbox.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = inbox.get(timeout=1)
        except queue.Empty:
            yield None
            continue
        if not line.endswith("\n"):  # the end, or half a message of a stage that was killed
            return
        yield json.loads(line)


def serve(source: IO[str]) -> Message:
    """Carry out the messages of one stage; the answer to it.

    A stage that was killed sends no `finish`: its run ends as FAILED.
    """
    writer = Writer()
    finished = False
    for message in _messages(source):
        if message is not None:
            finished |= message["kind"] == "finish"
            writer.handle(message)
        writer.flush(only_if_due=True)
    if not finished:
        writer.handle(dict(KILLED))
    run = writer.run
    return {"run_id": run and run.run_id, "parent_run_id": run and run.parent_id, "error": writer.error}


def main() -> None:
    """Serve the stage at the other end of the pipe."""
    # Libraries print to standard output; keep it for the answer, which a killed stage does not hear.
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)
        answer.write(json.dumps(serve(sys.stdin)))


if __name__ == "__main__":
    main()
