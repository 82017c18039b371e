"""What changed from one revision to the other: parameters, data, code, figures and runs."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from discern.compare import inputs
from discern.compare.inputs import Change
from discern.compare.paired import difference
from discern.compare.revision import Revision
from discern.errors import DataError
from discern.evaluation.bootstrap import Interval
from discern.report.aggregate import verdict
from discern.report.summary import MEASURES, Figure, Measure, Summary, Verdict, share_measures

SAMPLES, SEED = 1000, 0  # of the bootstrap, where the revision's own parameters do not say


@dataclass(frozen=True)
class FigureChange:
    """One figure of one method; the difference is known where both were scored on the same test images."""

    measure: Measure
    before: Figure | None
    after: Figure | None
    difference: Interval | None = None

    @property
    def verdict(self) -> Verdict | None:
        """What the difference's interval says."""
        return verdict(self.difference) if self.difference else None


@dataclass(frozen=True)
class Run:
    """Where the record of a revision's pipeline is; ids are None where MLflow was off."""

    run_id: str | None
    host: str
    machine: str
    started: str


@dataclass(frozen=True)
class Comparison:
    """Everything that differs from `before` to `after`.

    Attributes:
        params: parameters that differ.
        data: outputs of the data stages with their checksums, changed or not.
        code: files of code that differ, with lines added and taken away.
        methods: figures by method; methods of either revision.
        runs: MLflow run of either revision's report.
        curves: training curves by `METHOD-SEED`, of either revision.
        notes: what could not be compared, and why.
    """

    before: Revision
    after: Revision
    params: list[Change]
    data: list[Change]
    code: list[tuple[str, str, str]]
    methods: dict[str, list[FigureChange]]
    runs: tuple[Run | None, Run | None]
    curves: dict[str, tuple[pd.DataFrame | None, pd.DataFrame | None]]
    notes: list[str] = field(default_factory=list)


def compare(root: Path, before: str, after: str) -> Comparison:
    """Compare two revisions of a checkout.

    Args:
        root: the checkout.
        before: commit, tag, branch, DVC experiment, or `workspace`.
        after: the same.

    Raises:
        RevisionError: one of them does not exist.
    """
    old, new = Revision.find(root, before), Revision.find(root, after)
    notes: list[str] = []
    summaries = _summary(old, notes), _summary(new, notes)
    return Comparison(
        old,
        new,
        params=inputs.params(old, new),
        data=inputs.data(old, new),
        code=inputs.code(old, new),
        methods=_methods(old, new, *summaries, notes),
        runs=(_run(old), _run(new)),
        curves=_curves(old, new, *summaries),
        notes=notes,
    )


def _summary(revision: Revision, notes: list[str]) -> Summary | None:
    text = revision.text("metrics/summary.json")
    if text is None:
        notes.append(f"{revision.label} has no results (metrics/summary.json)")
        return None
    try:
        return Summary.model_validate_json(text)
    except ValueError:
        notes.append(f"{revision.label}: metrics/summary.json is of another version of discern and is left out")
        return None


def _methods(
    old: Revision, new: Revision, before: Summary | None, after: Summary | None, notes: list[str]
) -> dict[str, list[FigureChange]]:
    samples, seed = _resampling(new)
    methods: dict[str, list[FigureChange]] = {}
    lost: dict[str, list[str]] = {}
    for method in dict.fromkeys((*(after.methods if after else ()), *(before.methods if before else ()))):
        theirs, ours = (summary.methods.get(method, {}) if summary else {} for summary in (before, after))
        outcomes = _outcomes(old, method, before, lost), _outcomes(new, method, after, lost)
        methods[method] = []
        for measure in (*MEASURES, *share_measures((*theirs, *ours))):
            a, b = theirs.get(measure.key), ours.get(measure.key)
            if a is None and b is None:
                continue
            found = None
            if a and b and measure.column and all(outcomes):
                try:
                    found = difference(outcomes[0], outcomes[1], measure.column, samples, seed)
                except DataError as error:
                    notes.append(f"{method}: {error}, so no difference is given")
                    outcomes = [], []
            methods[method].append(FigureChange(measure, a, b, found))
    notes += [
        f"{label}: what {', '.join(names)} got right is neither in the cache nor on the remote, so no"
        " difference is given; `dvc fetch --all-commits` gets what was pushed"
        for label, names in lost.items()
    ]
    return methods


def _outcomes(
    revision: Revision, method: str, summary: Summary | None, lost: dict[str, list[str]]
) -> list[pd.DataFrame]:
    """Outcomes of every seed, or none: half of the seeds would be another figure."""
    if summary is None or method not in summary.methods:
        return []
    paths = [f"data/embeddings/{method}/{seed}/outcomes.parquet" for seed in summary.seeds]
    frames = [revision.table(path) for path in paths]
    found = [frame for frame in frames if frame is not None]
    if len(found) < len(frames):
        lost.setdefault(revision.label, []).append(method)
        return []
    return found


def _resampling(revision: Revision) -> tuple[int, int]:
    bootstrap = revision.yaml("params.yaml").get("evaluate", {}).get("bootstrap", {})
    return int(bootstrap.get("samples", SAMPLES)), int(bootstrap.get("seed", SEED))


def _run(revision: Revision) -> Run | None:
    file = revision.tracked("reports/runs/report.json")
    if file is None:
        return None
    record = json.load(file)
    return Run(record["parent_run_id"], record["tracking_host"], record["device"], record["started"])


def _curves(
    old: Revision, new: Revision, before: Summary | None, after: Summary | None
) -> dict[str, tuple[pd.DataFrame | None, pd.DataFrame | None]]:
    seeds = {f"{method}-{seed}": None for s in (after, before) if s for method in s.methods for seed in s.seeds}
    curves = {name: (_curve(old, name), _curve(new, name)) for name in seeds}
    return {name: pair for name, pair in curves.items() if any(frame is not None for frame in pair)}


def _curve(revision: Revision, name: str) -> pd.DataFrame | None:
    path = f"plots/training/{name}.csv"
    return revision.table(path) if path in revision.outs or revision.in_workspace else None
