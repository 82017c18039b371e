"""How to make the report's numbers again: commit, parameters, machine, versions and time.

The one part of the page that changes from run to run; everything else depends on data and parameters alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from discern.tracking import provenance, run_record
from discern.tracking.run_record import RunRecord
from discern.workspace import Workspace


@dataclass(frozen=True)
class StageTime:
    """One stage's record; `share` is its seconds in percent of the longest stage's."""

    stage: str
    seconds: float
    share: float
    memory_mb: float
    commit: str
    device: str


@dataclass(frozen=True)
class Reproduction:
    """Everything that the section shows; empty strings where something is not known, `methods` by file."""

    commit: str
    dirty: bool
    params: str
    methods: dict[str, str]
    params_sha256: str
    machines: list[str]
    versions: dict[str, str]
    stages: list[StageTime]
    seconds: float
    mixed_commits: bool


def reproduction(workspace: Workspace, methods: Iterable[str] = ()) -> Reproduction:
    """Gather it from Git, the parameters and the stages' run records.

    Args:
        workspace: of the pipeline.
        methods: whose parameters are shown beside params.yaml.
    """
    git = provenance.git_state(workspace.root)
    # The report's own record is written after it: the one that lies there is of an earlier run.
    others = [record for record in run_record.load_all(workspace) if record.stage != "report"]
    records = sorted(others, key=lambda record: record.started)
    longest = max((record.seconds for record in records), default=0.0) or 1.0
    stages = [_stage(record, longest) for record in records]
    versions: dict[str, str] = {}
    for record in records:
        versions |= record.versions
    files = [f"methods/{name}.yaml" for name in methods if (workspace.root / "methods" / f"{name}.yaml").is_file()]
    return Reproduction(
        commit=git.get("git.commit", ""),
        dirty=git.get("git.dirty") == "true",
        params=workspace.params.read_text(encoding="utf-8") if workspace.params.is_file() else "",
        methods={file: (workspace.root / file).read_text(encoding="utf-8") for file in files},
        params_sha256=provenance.params_sha256(workspace.params) or "",
        machines=list(dict.fromkeys(_machine(record) for record in records)),
        versions=versions or provenance.library_versions(),
        stages=stages,
        seconds=sum(record.seconds for record in records),
        mixed_commits=len({stage.commit for stage in stages}) > 1,
    )


def duration(seconds: float) -> str:
    """`7.1 s`, `4 min 5 s` or `2 h 3 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def _stage(record: RunRecord, longest: float) -> StageTime:
    return StageTime(
        record.stage,
        record.seconds,
        round(100 * record.seconds / longest, 1),
        record.peak_memory_mb,
        record.provenance.get("git.commit", "")[:7],
        record.device,
    )


def _machine(record: RunRecord) -> str:
    return f"{record.device}, {record.threads} thread{'s' if record.threads != 1 else ''}"
