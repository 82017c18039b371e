"""A comparison as Markdown for a review, for the terminal, and as one HTML file with the training curves."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from discern.compare.comparison import Comparison
from discern.compare.tables import Cell, Table, tables
from discern.report import figures
from discern.report.html import environment
from discern.report.table import SYMBOLS
from discern.report.terminal import COLOURS
from discern.version import __version__

BEFORE, AFTER = 3, 0  # the colours of the two lines: grey and the first method's


@dataclass(frozen=True)
class Panel:
    """Two training curves over each other."""

    title: str
    svg: Markup


def legend() -> str:
    """What the symbols mean."""
    meanings = ", ".join(f"{symbol} {verdict}" for verdict, symbol in SYMBOLS.items())
    return (
        f"Differences are after minus before in points, paired by test image, with 95 % bootstrap intervals: "
        f"{meanings}, = the same image by image. They do not cover the luck of training."
    )


def markdown(comparison: Comparison) -> str:
    """Tables for a comment in a review; long ones are folded."""
    old, new = comparison.before.label, comparison.after.label
    lines = [f"### discern: `{old}` → `{new}`", "", *_notes(comparison)]
    for table in tables(comparison):
        text = [f"**{table.title}**", ""] if table.rows else []
        text += _markdown_table(table) if table.rows else [table.empty, ""]
        folded = table.title in {"Data", "Code"} and len(table.rows) > 0
        lines += (
            [f"<details><summary>{table.title}</summary>", "", *text[2:], "</details>", ""] if folded else text
        )
    return "\n".join([*lines, legend()]) + "\n"


def terminal(comparison: Comparison) -> Group:
    """Tables for the terminal."""
    parts: list[RenderableType] = [f"- {note}" for note in comparison.notes]
    for table in tables(comparison):
        if not table.rows:
            parts += ["", table.empty]
            continue
        drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=table.title, title_justify="left")
        for number, head in enumerate(table.heads):
            drawn.add_column(head, overflow="fold", justify="right" if table.figures and number else "left")
        for row in table.rows:
            drawn.add_row(*(Text(cell.text, style=_colour(cell)) for cell in row))
        parts += ["", drawn]
    return Group(*parts, "", legend())


def html(comparison: Comparison) -> str:
    """One page that needs nothing else: the tables and the training curves over each other."""
    return (
        environment("discern.compare")
        .get_template("compare.html.j2")
        .render(
            version=__version__,
            before=comparison.before.label,
            after=comparison.after.label,
            notes=comparison.notes,
            tables=tables(comparison),
            panels=list(_panels(comparison)),
            colours=(BEFORE, AFTER),
            legend=legend(),
        )
    )


def _panels(comparison: Comparison) -> Iterator[Panel]:
    for name, pair in comparison.curves.items():
        for column, title, percent in (
            ("loss", "training loss", False),
            ("knn", "kNN on validation images", True),
        ):
            curves = [
                _curve(frame, column, colour)
                for frame, colour in zip(pair, (BEFORE, AFTER), strict=True)
                if frame is not None and column in frame and frame[column].notna().any()
            ]
            if curves:
                label = f"{name}: {title}"
                svg = figures.lines(f"{column}-{name}", label, curves, percent=percent)
                yield Panel(label, Markup(svg))  # noqa: S704  our own SVG


def _curve(frame: pd.DataFrame, column: str, colour: int) -> figures.Curve:
    x, y = (frame[name].to_numpy(np.float64, na_value=np.nan) for name in ("passes", column))
    return figures.Curve(colour, x, y)


def _notes(comparison: Comparison) -> list[str]:
    return [*(f"- {note}" for note in comparison.notes), ""] if comparison.notes else []


def _markdown_table(table: Table) -> list[str]:
    rule = ["---", *["---:" if table.figures else "---"] * (len(table.heads) - 1)]
    rows = [[_escaped(cell.text) for cell in row] for row in table.rows]
    return [f"| {' | '.join(cells)} |" for cells in (table.heads, rule, *rows)] + [""]


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def _colour(cell: Cell) -> str:
    return COLOURS[cell.verdict] if cell.verdict else ""
