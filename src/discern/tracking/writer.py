"""What every message of a stage's record does in MLflow."""

import sys
import time
from pathlib import Path
from typing import Any

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
        kind, content = message["kind"], {key: value for key, value in message.items() if key != "kind"}
        try:
            if kind == "metrics":
                self._points += [tuple(point) for point in message["points"]]
            else:
                self.flush()
                getattr(self, f"_{kind}")(**content)
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
