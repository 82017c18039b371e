"""reports/runs/STAGE_ID.json: how one stage's results came about, travelling with them.

DVC restores it with the other outputs, so a stage taken from the cache still names the run that made it.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path

from discern.errors import DataError
from discern.workspace import Workspace, atomic_file


@dataclass(frozen=True)
class RunRecord:
    """One executed stage.

    Attributes:
        stage: id of the stage, e.g. `train_encoder@0`.
        pipeline: id of the invocation that ran it.
        run_id: MLflow run, None where nothing was recorded.
        parent_run_id: MLflow run of the whole invocation.
        experiment: MLflow experiment.
        tracking: `recorded`, `off`, or `waiting: …` until `discern sync` delivers it.
        tracking_host: where MLflow keeps the run; never credentials.
        provenance: git.commit, git.dirty, git.branch, dvc.*, as in the run's tags.
        params_sha256: checksum of params.yaml.
        host: the machine's name.
        device: accelerator or processor.
        threads: CPU threads that the stage was given.
        versions: Python and libraries.
        started: UTC, ISO 8601.
        seconds: wall time of the stage.
        peak_memory_mb: highest resident memory of the stage's process.
        metrics: final figures, throughput among them.
        tags: what the stage found out about itself: the weights that it started from.
        precision: bf16 or fp32, what the stage computed in; empty where it has no use for either.
    """

    stage: str
    pipeline: str
    run_id: str | None
    parent_run_id: str | None
    experiment: str
    tracking: str
    tracking_host: str
    provenance: dict[str, str]
    params_sha256: str | None
    host: str
    device: str
    threads: int
    versions: dict[str, str]
    started: str
    seconds: float
    peak_memory_mb: float
    metrics: dict[str, float]
    tags: dict[str, str] = field(default_factory=dict)
    precision: str = ""

    def save(self, path: Path) -> None:
        """Write the record, whole or not at all."""
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> RunRecord:
    """Read one record.

    Raises:
        DataError: the file is not a run record.
    """
    try:
        return RunRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: not a run record ({error}); delete it and run `dvc repro` again") from error


def load_all(workspace: Workspace) -> list[RunRecord]:
    """Every record in the workspace, by stage id."""
    return [load(path) for path in sorted(workspace.run_record("any").parent.glob("*.json"))]


def reused(workspace: Workspace, stages: Collection[str], pipeline: str) -> dict[str, str]:
    """Stage id → MLflow run that made its results, for those of `stages` that `pipeline` took from the cache."""
    records = [record for record in load_all(workspace) if record.stage in stages]
    return {r.stage: r.run_id for r in records if r.pipeline != pipeline and r.run_id}
