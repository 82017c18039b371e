"""The page's first part: every method's figures with intervals, and its difference to the control."""

from dataclasses import dataclass

from discern.params.pipeline import OURS
from discern.report.described import Method
from discern.report.summary import (
    CLASS_MEANS,
    LABEL_FREE,
    LABELLED,
    OTHER_PROTOCOLS,
    SAW_LABELS,
    Figure,
    Measure,
    Summary,
)
from discern.report.table import SYMBOLS, heading, number, span

MARGIN = 0.06  # of a bar's axis, left free on both sides
REACH = 2.0  # the axis of differences reaches this many times as far as our own intervals


@dataclass(frozen=True)
class Cell:
    """One figure, its interval, and where both lie on the column's axis in percent of its width.

    `beyond` is -1 or 1 where the figure lies off the axis, to the left or to the right.
    """

    text: str = "–"
    interval: str = ""
    note: str = ""
    point: float | None = None
    bar: tuple[float, float] | None = None
    beyond: int = 0
    verdict: str = ""
    symbol: str = ""


@dataclass(frozen=True)
class Grid:
    """A table of methods; `reference` is where each column's thin line stands, in percent of its axis."""

    columns: list[str]
    rows: list[tuple[Method, list[Cell]]]
    reference: list[float | None]

    @property
    def drawn(self) -> bool:
        """True where any figure has an interval to draw."""
        return any(cell.bar for _, cells in self.rows for cell in cells)


@dataclass(frozen=True)
class Tile:
    """A large figure with its name and what to know about it."""

    name: str
    value: str
    note: str
    verdict: str = ""


def tiles(summary: Summary, described: list[Method]) -> list[Tile]:
    """The figures that the verdict rests on; none without labels."""
    measure = next(iter(summary.shown(LABELLED)), None)
    if measure is None:
        return []
    control = summary.control
    found = []
    for method in dict.fromkeys((OURS, control)):
        figure = summary.methods[method].get(measure.key)
        if figure:
            note = f"95 % interval {span(measure, figure.interval)}" if figure.interval else ""
            name = method if method == OURS else f"{method}, the control"
            found.append(Tile(name, f"{number(measure, figure.mean)} %", note))
    ours = summary.methods[OURS].get(measure.key)
    if ours and ours.difference is not None and ours.difference_interval and ours.verdict:
        value = number(measure, ours.difference, signed=True)
        bounds = span(measure, ours.difference_interval, signed=True)
        found.append(Tile("Difference in points", value, f"{bounds}: {ours.verdict}", ours.verdict))
    # The same network, not the first of the floors: pixels and hand-made features are floors too.
    untrained = next((method.name for method in described if method.kind == "random_init"), None)
    floor = summary.methods[untrained].get(measure.key) if untrained else None
    majority = summary.floor.get("majority")
    guess = f"always the largest class: {number(measure, majority)} %" if majority is not None else ""
    if floor:
        found.append(Tile("Floor: an untrained encoder", f"{number(measure, floor.mean)} %", guess))
    elif majority is not None:
        found.append(Tile("Floor: always the largest class", f"{number(measure, majority)} %", ""))
    return found


def figures(summary: Summary, described: list[Method], measures: tuple[Measure, ...]) -> Grid | None:
    """Figures of every method on the measures that there are; None when there are none."""
    shown = summary.shown(measures)
    if not shown:
        return None
    # An untrained encoder is so far off that the others could not be told apart on its scale.
    trained = [summary.methods[method.name] for method in described if method.role != "floor"]
    axes = {m.key: _axis([f for found in trained if (f := found.get(m.key))]) for m in shown}
    seen = dict(summary.labels)
    rows = [
        (
            method,
            [
                *([Cell(seen[method.name])] if seen else []),
                *(_cell(m, summary.methods[method.name].get(m.key), axes[m.key]) for m in shown),
            ],
        )
        for method in described
    ]
    control = summary.methods[summary.control]
    reference = [
        _position(control[m.key].mean, axes[m.key]) if m.key in control and control[m.key].interval else None
        for m in shown
    ]
    if seen:
        return Grid([SAW_LABELS, *(heading(m) for m in shown)], rows, [None, *reference])
    return Grid([heading(m) for m in shown], rows, reference)


def shares(summary: Summary, described: list[Method]) -> Grid | None:
    """The linear probe on shares of the labels, with the spread over draws; None where no share was scored."""
    shown = summary.shown(summary.shares)
    if not shown:
        return None

    def cell(measure: Measure, figure: Figure | None) -> Cell:
        if figure is None:
            return Cell()
        note = f"draws {span(measure, figure.subsets)}" if figure.subsets else ""
        return Cell(number(measure, figure.mean), note=note)

    rows = [(method, [cell(m, summary.methods[method.name].get(m.key)) for m in shown]) for method in described]
    return Grid([heading(m) for m in shown], rows, [None] * len(shown))


def differences(summary: Summary, described: list[Method]) -> Grid | None:
    """Paired differences to the control, in points; None when nothing is compared."""
    shown = [
        m
        for m in summary.shown((*LABELLED, *OTHER_PROTOCOLS))
        if any(method[m.key].difference is not None for method in summary.methods.values() if m.key in method)
    ]
    if not shown:
        return None
    ours = [
        abs(bound)
        for m in shown
        if (figure := summary.methods[OURS].get(m.key))
        for bound in figure.difference_interval or ()
    ]
    # One axis for all columns, zero in its middle, so that lengths can be compared across measures.
    reach = REACH * max(ours, default=0.5) or 0.01
    axis = (-reach, reach)
    rows = [
        (method, [_difference(m, summary.methods[method.name].get(m.key), axis) for m in shown])
        for method in described
        if method.name != summary.control
    ]
    return Grid([m.title for m in shown], rows, [_position(0.0, axis)] * len(shown))


def tables(summary: Summary, described: list[Method]) -> dict[str, Grid | None]:
    """All tables of the page by name."""
    return {
        "labelled": figures(summary, described, (*LABELLED, *CLASS_MEANS)),
        "other_protocols": figures(summary, described, OTHER_PROTOCOLS),
        "shares": shares(summary, described),
        "label_free": figures(summary, described, LABEL_FREE),
        "differences": differences(summary, described),
    }


def _cell(measure: Measure, figure: Figure | None, axis: tuple[float, float]) -> Cell:
    if figure is None:
        return Cell()
    seeds = f"seeds {span(measure, figure.spread)}" if len(figure.seeds) > 1 else ""
    if figure.interval is None:
        return Cell(number(measure, figure.mean), note=seeds)
    drawn = _drawn(figure.mean, figure.interval, axis)
    return Cell(number(measure, figure.mean), span(measure, figure.interval), seeds, *drawn)


def _difference(measure: Measure, figure: Figure | None, axis: tuple[float, float]) -> Cell:
    if figure is None or figure.difference is None or not figure.difference_interval or not figure.verdict:
        return Cell()
    return Cell(
        number(measure, figure.difference, signed=True),
        span(measure, figure.difference_interval, signed=True),
        "",
        *_drawn(figure.difference, figure.difference_interval, axis),
        verdict=figure.verdict,
        symbol=SYMBOLS[figure.verdict],
    )


def _drawn(
    value: float, interval: tuple[float, float], axis: tuple[float, float]
) -> tuple[float, tuple[float, float], int]:
    """Where point and bar are drawn, and on which side the point lies beyond the axis."""
    beyond = (value > axis[1]) - (value < axis[0])
    low, high = (_position(min(max(bound, axis[0]), axis[1]), axis) for bound in interval)
    return _position(min(max(value, axis[0]), axis[1]), axis), (low, high), beyond


def _axis(column: list[Figure]) -> tuple[float, float]:
    bounds = [bound for figure in column for bound in (figure.mean, *(figure.interval or ()))]
    low, high = min(bounds, default=0.0), max(bounds, default=1.0)
    margin = MARGIN * (high - low) or 0.01
    return low - margin, high + margin


def _position(value: float, axis: tuple[float, float]) -> float:
    return round(100 * (value - axis[0]) / (axis[1] - axis[0]), 2)
