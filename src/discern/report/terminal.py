"""The tables of methods for a terminal of 80 columns."""

from rich import box
from rich.table import Table
from rich.text import Text

from discern.params.pipeline import OURS
from discern.report.summary import LABEL_FREE, LABELLED, Figure, Measure, Summary, Verdict
from discern.report.table import SHARES_TITLE, SYMBOLS, compared, number, span, spread_of

COLOURS: dict[Verdict, str] = {"better": "green", "worse": "red", "undecided": ""}


def methods(summary: Summary) -> Table:
    """The main figures over their intervals, and the difference to the control."""
    measures = summary.shown(LABELLED) or summary.shown(LABEL_FREE)
    differing = bool(measures) and compared(summary, measures[0])
    table = _table()
    for measure in measures:
        name = measure.short or measure.title
        table.add_column(f"{name} %" if measure.percent else name, justify="right", no_wrap=True)
    if differing:
        name = (measures[0].short or measures[0].title).lower()
        table.add_column(f"Δ {name}", justify="right", no_wrap=True)
        table.caption = (
            f"Δ {name}: difference to {summary.control} in points, {SYMBOLS['better']} better, "
            f"{SYMBOLS['worse']} worse, {SYMBOLS['undecided']} undecided"
        )
    for method, figures in summary.methods.items():
        found = [figures.get(measure.key) for measure in measures]
        cells = [_cell(m, f, f.interval if f else None) for m, f in zip(measures, found, strict=True)]
        cells += [_difference(measures[0], found[0])] if differing else []
        table.add_row(_name(method), *cells)
    return table


def shares(summary: Summary) -> Table | None:
    """The probe on shares of the labels, over the lowest and the highest; None where no share was scored."""
    measures = summary.shown(summary.shares)
    if not measures:
        return None
    table = _table()
    table.caption = f"{SHARES_TITLE}, accuracy in percent; {spread_of(summary)}"
    for measure in measures:
        table.add_column(measure.title, justify="right", no_wrap=True)
    for method, figures in summary.methods.items():
        found = [figures.get(measure.key) for measure in measures]
        cells = [_cell(m, f, f.subsets if f else None) for m, f in zip(measures, found, strict=True)]
        table.add_row(_name(method), *cells)
    return table


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.caption_justify = "left"
    table.add_column("method", no_wrap=True)
    return table


def _name(method: str) -> Text:
    return Text(method, style="bold" if method == OURS else "")


def _cell(measure: Measure, figure: Figure | None, bounds: tuple[float, float] | None) -> Text:
    cell = Text(number(measure, figure.mean) if figure else "–")
    return cell.append(f"\n{span(measure, bounds)}", style="dim") if bounds else cell


def _difference(measure: Measure, figure: Figure | None) -> Text:
    if figure is None or figure.difference is None or not figure.difference_interval or not figure.verdict:
        return Text("–")
    value = number(measure, figure.difference, signed=True)
    low, high = (number(measure, bound, signed=True) for bound in figure.difference_interval)
    text = Text(f"{SYMBOLS[figure.verdict]} {value}", style=COLOURS[figure.verdict])
    return text.append(f"\n{low}…{high}", style="dim")
