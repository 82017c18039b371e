"""A comparison as tables of plain text, which Markdown, the terminal and the page draw alike."""

from dataclasses import dataclass

from discern.compare.comparison import Comparison, FigureChange, Run
from discern.compare.inputs import Change
from discern.report.summary import CLASS_MEANS, LABEL_FREE, LABELLED, OTHER_PROTOCOLS, Measure, Verdict
from discern.report.table import SYMBOLS, number, span

SHORT = 12  # characters of a checksum that are shown
NONE = "–"


@dataclass(frozen=True)
class Cell:
    """Text, and what it says about the change where it says something."""

    text: str
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Table:
    """A table with its title; the first column names the row.

    Attributes:
        empty: what to say where there are no rows.
        figures: whether the other columns hold figures.
    """

    title: str
    heads: list[str]
    rows: list[list[Cell]]
    empty: str = ""
    figures: bool = False


def tables(comparison: Comparison) -> list[Table]:
    """Revisions, figures, parameters, data and code, in the order of interest."""
    old, new = comparison.before, comparison.after
    sides = [old.label, new.label]
    return [
        Table(
            "Revisions",
            ["", *sides],
            [
                _row("commit", old.commit[:SHORT], new.commit[:SHORT]),
                _row("message", old.subject, new.subject),
                *([_row("MLflow run", *map(_run, comparison.runs))] if any(comparison.runs) else []),
                *([_row("made on", *map(_machine, comparison.runs))] if any(comparison.runs) else []),
            ],
        ),
        *_figures(comparison),
        Table(
            "Parameters",
            ["parameter", *sides],
            [_row(c.key, c.before or NONE, c.after or NONE) for c in comparison.params],
            "No parameter differs.",
        ),
        Table(
            "Data", ["output", *sides, ""], [_data(c) for c in comparison.data], "Neither has data in dvc.lock."
        ),
        Table(
            "Code",
            ["file", "lines added", "lines deleted"],
            [_row(*changed) for changed in comparison.code],
            "No file of code differs.",
        ),
    ]


def _figures(comparison: Comparison) -> list[Table]:
    groups = {
        "Figures": LABELLED,
        "Other protocols": (*CLASS_MEANS, *OTHER_PROTOCOLS),
        "Without labels": LABEL_FREE,
    }
    found = []
    for title, group in groups.items():
        measures = [m for m in group if any(_of(m, changes) for changes in comparison.methods.values())]
        rows = [
            [Cell(method), *(_figure(_of(m, changes)) for m in measures)]
            for method, changes in comparison.methods.items()
        ]
        if measures:
            heads = ["method", *(f"{m.short or m.title}{' %' if m.percent else ''}" for m in measures)]
            found.append(Table(title, heads, rows, figures=True))
    return found


def _of(measure: Measure, changes: list[FigureChange]) -> FigureChange | None:
    return next((change for change in changes if change.measure == measure), None)


def _figure(change: FigureChange | None) -> Cell:
    """`57.0 → 60.1`, and where the test images are the same, the paired difference with its interval."""
    if change is None:
        return Cell(NONE)
    measure = change.measure
    before, after = (number(measure, f.mean) if f else NONE for f in (change.before, change.after))
    if change.difference is None or change.verdict is None:
        return Cell(f"{before} → {after}" if before != after else after)
    if change.difference.low == change.difference.high == 0:
        return Cell(f"{after} =")
    value = number(measure, change.difference.mean, signed=True)
    bounds = span(measure, (change.difference.low, change.difference.high), signed=True)
    return Cell(f"{before} → {after} {SYMBOLS[change.verdict]} {value} ({bounds})", change.verdict)


def _row(*texts: str) -> list[Cell]:
    return [Cell(text) for text in texts]


def _data(change: Change) -> list[Cell]:
    sums = [(value or NONE)[:SHORT] for value in (change.before, change.after)]
    return _row(change.key, *sums, "same" if change.before == change.after else "differs")


def _run(run: Run | None) -> str:
    return (run.run_id or "not recorded") if run else NONE


def _machine(run: Run | None) -> str:
    return f"{run.machine}, {run.started[:10]}" if run else NONE
