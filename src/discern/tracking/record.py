"""`Recorder`: what a stage tells about itself, for MLflow and for its run record."""

import getpass
import json
import logging
import math
import os
import resource
import select
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from discern.nested import flat
from discern.settings import settings
from discern.tracking import provenance, run_record
from discern.tracking.spool import Spool
from discern.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)

FINISH_SECONDS = 120  # a slow server's time to take what is left; a stopped stage gets less
STOP_SECONDS = 10


class Recorder:
    """Records one executed stage; never fails or delays it because MLflow is down.

    All is appended to a file, and a process beside the stage brings it to MLflow.

    Args:
        stage_id: e.g. `train_encoder@0`; the run's name.
        workspace: the checkout, for params.yaml and reports/runs.
        params: every parameter, nested as in params.yaml.
        used: keys of `params` that this stage uses, dotted (`base.seeds`); None: all.
        upstream: ids of the stages whose results this one uses; those that another pipeline made are linked
            from the parent run.
        tracking: False: no MLflow; None: as the settings say.

    Attributes:
        precision: bf16 or fp32, to be set by what computes; it need not be that of the parameters.
    """

    def __init__(
        self,
        stage_id: str,
        workspace: Workspace,
        params: Mapping[str, object] | None = None,
        used: list[str] | None = None,
        upstream: frozenset[str] = frozenset(),
        tracking: bool | None = None,
    ) -> None:
        self.stage_id = stage_id
        self.precision = ""
        self.final: dict[str, float] = {}
        self._tags: dict[str, str] = {}
        self._workspace = workspace
        self._upstream = upstream
        self._started = datetime.now(UTC)
        self._clock = time.perf_counter()
        self._pipeline = provenance.pipeline_id(settings().pipeline)
        self._params_sha256 = provenance.params_sha256(workspace.params)
        self._origin = provenance.git_state(workspace.root) | provenance.dvc_state(workspace.root)
        self._answer: dict[str, Any] = {}
        self._deliverer: subprocess.Popen[str] | None = None
        self._spool: Spool | None = None
        if settings().tracking if tracking is None else tracking:
            self._start(flatten(params or {}), used)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log figures.

        Args:
            values: name → value, named as in the stage's JSON or curve.
            step: training step; None marks final figures, which the run record keeps.
        """
        if step is None:
            self.final.update({name: float(value) for name, value in values.items()})
        self._send("metrics", points=_points(values, step or 0))

    def tags(self, values: Mapping[str, str]) -> None:
        """Note what the stage found out about itself, e.g. which weights it started from."""
        self._tags |= values
        self._send("tags", tags=dict(values))

    def artifact(self, path: Path, folder: str = "", of_pipeline: bool = False) -> None:
        """Copy a file or a folder to the run.

        Args:
            path: the file, which may change or go afterwards.
            folder: where among the run's artifacts; default its top.
            of_pipeline: to the run of the whole pipeline instead.

        Raises:
            FileNotFoundError: there is no such file.
        """
        if not path.exists():
            raise FileNotFoundError(path)
        if self._spool:
            kept = self._spool.place(path.resolve().name)
            if path.is_dir():
                shutil.copytree(path, kept)
            else:
                shutil.copyfile(path, kept)
            self._send("artifact", path=kept, folder=folder, of_pipeline=of_pipeline)

    def dataset(self, name: str, frame: "pd.DataFrame", digest: str, context: str = "training") -> None:
        """Log the images that the stage used, as a table with one row each.

        Args:
            name: e.g. `packed-train`.
            frame: manifest or index.
            digest: checksum of the data, at most 36 characters (a DVC `<md5>.dir` just fits).
            context: `training`, `validation` or `test`.
        """
        if len(digest) > 36:
            raise ValueError(f"digest of {len(digest)} characters; MLflow takes 36")
        if self._spool:
            table = self._spool.place(f"{name}-{context}.parquet")
            frame.to_parquet(table)
            self._send("dataset", path=table, name=name, digest=digest, context=context)

    def pipeline_artifact(self, path: Path, folder: str = "") -> None:
        """Copy a file or a folder to the run of the whole pipeline, e.g. the table of methods."""
        self.artifact(path, folder, of_pipeline=True)

    def pipeline_metrics(self, values: Mapping[str, float]) -> None:
        """Log figures of the whole pipeline, by which MLflow can compare pipelines."""
        self._send("metrics", points=_points(values, 0), of_pipeline=True)

    def finish(self, status: str) -> None:
        """End the run; with status FINISHED also write the run record.

        Args:
            status: FINISHED, FAILED or KILLED, as MLflow calls them.
        """
        seconds = time.perf_counter() - self._clock
        # ru_maxrss is in KiB on Linux and in bytes on macOS.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
        device = provenance.device_name()
        threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        tags = {"device": device, "seconds": f"{seconds:.1f}", "threads": str(threads), "peak_mb": f"{peak:.0f}"}
        if self.precision:
            tags["precision"] = self.precision
        reused = run_record.reused(self._workspace, self._upstream, self._pipeline)
        self._send("finish", status=status, tags=tags, reused=reused)
        if self._spool:
            self._answer = self._wait_for_answer(FINISH_SECONDS if status == "FINISHED" else STOP_SECONDS)
            self._spool.close(delivered=self._answer["error"] is None)
        if status != "FINISHED":
            return
        run_record.RunRecord(
            stage=self.stage_id,
            pipeline=self._pipeline,
            run_id=self._answer.get("run_id"),
            parent_run_id=self._answer.get("parent_run_id"),
            experiment=settings().experiment,
            tracking=self._tracking_state(),
            tracking_host=_host(settings().resolved_tracking_uri),
            provenance=self._origin,
            params_sha256=self._params_sha256,
            host=socket.gethostname(),
            device=device,
            threads=threads,
            precision=self.precision,
            versions=provenance.library_versions(),
            started=self._started.isoformat(timespec="seconds"),
            seconds=round(seconds, 3),
            peak_memory_mb=round(peak, 1),
            metrics=self.final,
            tags=self._tags,
        ).save(self._workspace.run_record(self.stage_id))

    def _start(self, params: dict[str, str], used: list[str] | None) -> None:
        started = int(self._started.timestamp() * 1000)
        record = f"{started}-{uuid.uuid4().hex}"
        self._spool = Spool(record)
        # One thread: its OpenMP pool must not compete with the stage's.
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "discern.tracking.deliver", record, str(os.getpid())]
        # A session of its own: Ctrl-C and a cancelled flow signal the stage's whole process group, and the
        # deliverer has to live on to say how the stage ended.
        self._deliverer = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True
        )
        tags = {
            **self._origin,
            "host": socket.gethostname(),
            "params.sha256": self._params_sha256 or "",
            "mlflow.user": getpass.getuser(),
            "mlflow.source.name": f"dvc repro {self.stage_id}",
            "mlflow.source.type": "LOCAL",
            "mlflow.source.git.commit": self._origin.get("git.commit", ""),
        }
        # The server's address, which may hold a password, is not written down: whoever delivers knows it.
        target = {
            "experiment": settings().experiment,
            "pipeline": self._pipeline,
            "stage": self.stage_id,
            "parent_name": provenance.pipeline_name(self._origin),
            "started": started,
            "record": record,
            "tags": tags,
        }
        chosen = {k: v for k, v in params.items() if used is None or _is_used(k, used)}
        self._send("open", target=target, params=chosen, all_params=params)
        if self._workspace.params.is_file():
            self.artifact(self._workspace.params)
        versions = self._spool.place("environment.json")
        versions.write_text(json.dumps(provenance.library_versions(), indent=2), encoding="utf-8")
        self._send("artifact", path=versions)

    def _send(self, kind: str, **content: object) -> None:
        if self._spool:
            self._spool.append({"kind": kind, **content})

    def _wait_for_answer(self, seconds: float) -> dict[str, Any]:
        assert self._deliverer is not None
        assert self._deliverer.stdout is not None
        ready, _, _ = select.select([self._deliverer.stdout], [], [], seconds)
        if line := self._deliverer.stdout.readline() if ready else "":
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._deliverer.kill()
        self._deliverer.wait()
        why = "the process that delivers it ended early" if ready else f"MLflow took more than {seconds} s"
        log.warning("MLflow has not taken all of this stage's record: %s; `discern sync` delivers it", why)
        return {"error": why}

    def _tracking_state(self) -> str:
        error = self._answer.get("error", "")
        return f"waiting: {error}" if error else "off" if error is not None else "recorded"


def flatten(tree: Mapping[str, object]) -> dict[str, str]:
    """Nested parameters as `train_encoder.pair_weight` → text, the names of `dvc params diff`."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in flat(tree).items()}


def _is_used(key: str, used: list[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in used)


def _points(values: Mapping[str, float], step: int) -> list[tuple[str, float, int, int]]:
    now = int(time.time() * 1000)
    return [(name, _finite(float(value)), now, step) for name, value in values.items()]


def _finite(value: float) -> float:
    """MLflow's database stores no infinity; the largest double stands for it."""
    return math.copysign(sys.float_info.max, value) if math.isinf(value) else value


def _host(uri: str) -> str:
    """The server's name, or the kind of local store; never user, password or path."""
    parts = urlsplit(uri)
    return parts.hostname or parts.scheme
