"""The summary in words: the verdict, the Markdown table and the table for the terminal."""

from typing import TYPE_CHECKING

from discern.report.summary import LABEL_FREE, LABELLED, Figure, Measure, Summary, Verdict

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

OURS = "discern"
_COLOURS: dict[Verdict, str] = {"better": "green", "worse": "red", "undecided": ""}
SYMBOLS: dict[Verdict, str] = {"better": "▲", "worse": "▼", "undecided": "≈"}


def number(measure: Measure, value: float, *, signed: bool = False) -> str:
    """A figure as people read it: shares in percent, few decimals, a true minus sign, and zero without sign."""
    scaled, decimals = (100 * value, 1) if measure.percent else (value, 1 if abs(value) >= 10 else 2)
    rounded = round(scaled, decimals) + 0.0  # -0.0 + 0.0 is 0.0
    sign = "+" if signed and rounded > 0 else ""
    return f"{sign}{rounded:.{decimals}f}".replace("-", "−")


def span(measure: Measure, interval: tuple[float, float], *, signed: bool = False) -> str:
    """An interval as people read it."""
    low, high = (number(measure, bound, signed=signed) for bound in interval)
    return f"{low} to {high}" if signed else f"{low}–{high}"


def headline(summary: Summary) -> str:
    """The verdict on our arm in one line."""
    figure, measure = _primary(summary)
    if figure is None or measure is None:
        return "No labels: the encoders are trained, but nothing here says which is better"
    if figure.difference is None or figure.verdict is None:
        return f"{OURS} reaches {number(measure, figure.mean)} %"
    points = number(measure, abs(figure.difference))
    signed = number(measure, figure.difference, signed=True)
    return {
        "better": f"{OURS} beats its control by {points} points",
        "worse": f"{OURS} does not beat its control: it is {points} points behind",
        "undecided": f"{OURS} does not beat its control: {signed} points could be chance",
    }[figure.verdict]


def explanation(summary: Summary) -> list[str]:
    """The sentences under the headline: how much, how sure, what else the table says."""
    figure, measure = _primary(summary)
    if figure is None or measure is None:
        return [
            "The data set has no labels, so probe, kNN and retrieval cannot be computed.",
            "The label-free figures below show whether an encoder collapsed and how well it recognises two "
            "views of one image; they do not rank encoders.",
        ]
    sentences = [_comparison(summary, figure, measure)]
    others = [
        f"{m.title} {number(m, f.difference, signed=True)} ({f.verdict})"
        for m in summary.shown(LABELLED)
        if m != measure and (f := summary.arms[OURS].get(m.key)) is not None and f.difference is not None
    ]
    if others:
        sentences.append(f"On the other measures, in points: {'; '.join(others)}.")
    count = len(summary.seeds)
    sentences.append(
        "Only one seed was trained: the intervals cover the choice of test images, not the luck of training."
        if count == 1
        else f"Figures are means over {count} seeds; intervals cover the choice of test images. "
        f"{_seeds_ahead(summary, measure)}"
    )
    return sentences


def markdown(summary: Summary) -> str:
    """The table of arms and the paired differences, as Markdown."""
    lines = [f"**{headline(summary)}.** {' '.join(explanation(summary))}", ""]
    for group in (LABELLED, LABEL_FREE):
        measures = summary.shown(group)
        if measures:
            lines += _markdown_table(
                ["arm", *(_heading(m) for m in measures)],
                [
                    [_name(arm, summary), *(_cell(m, figures.get(m.key)) for m in measures)]
                    for arm, figures in summary.arms.items()
                ],
            )
    compared = [m for m in summary.shown(LABELLED) if _compared(summary, m)]
    if compared:
        lines += [f"Difference to `{summary.control}`, paired by test image, in points:", ""]
        lines += _markdown_table(
            ["arm", *(m.title for m in compared)],
            [
                [_name(arm, summary), *(_difference_cell(m, figures.get(m.key)) for m in compared)]
                for arm, figures in summary.arms.items()
                if arm != summary.control
            ],
        )
    lines.append(
        f"95 % intervals from a bootstrap over test images; {len(summary.seeds)} seed(s): "
        f"{', '.join(map(str, summary.seeds))}."
    )
    return "\n".join(lines) + "\n"


def terminal(summary: Summary) -> "Table":
    """The table of arms for a terminal of 80 columns: figures over their intervals."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    measures = summary.shown(LABELLED) or summary.shown(LABEL_FREE)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("arm", no_wrap=True)
    for measure in measures:
        name = measure.short or measure.title
        table.add_column(f"{name} %" if measure.percent else name, justify="right", no_wrap=True)
    compared = bool(measures) and _compared(summary, measures[0])
    if compared:
        name = (measures[0].short or measures[0].title).lower()
        table.add_column(f"Δ {name}", justify="right", no_wrap=True)
        table.caption = (
            f"Δ {name}: difference to {summary.control} in points, {SYMBOLS['better']} better, "
            f"{SYMBOLS['worse']} worse, {SYMBOLS['undecided']} undecided"
        )
        table.caption_justify = "left"
    for arm, figures in summary.arms.items():
        cells = [Text(arm, style="bold" if arm == OURS else "")]
        for measure in measures:
            figure = figures.get(measure.key)
            cell = Text(number(measure, figure.mean) if figure else "–")
            if figure and figure.interval:
                cell.append(f"\n{span(measure, figure.interval)}", style="dim")
            cells.append(cell)
        if compared:
            cells.append(_terminal_difference(measures[0], figures.get(measures[0].key)))
        table.add_row(*cells)
    return table


def _terminal_difference(measure: Measure, figure: Figure | None) -> "Text":
    from rich.text import Text

    if figure is None or figure.difference is None or not figure.difference_interval or not figure.verdict:
        return Text("–")
    value = number(measure, figure.difference, signed=True)
    low, high = (number(measure, bound, signed=True) for bound in figure.difference_interval)
    text = Text(f"{SYMBOLS[figure.verdict]} {value}", style=_COLOURS[figure.verdict])
    return text.append(f"\n{low}…{high}", style="dim")


def _primary(summary: Summary) -> tuple[Figure | None, Measure | None]:
    """Our figure on the first measure there is: the one that the verdict is about."""
    for measure in summary.shown(LABELLED):
        figure = summary.arms[OURS].get(measure.key)
        if figure is not None:
            return figure, measure
    return None, None


def _seeds_ahead(summary: Summary, measure: Measure) -> str:
    """In how many seeds our arm is ahead: what the intervals do not cover."""
    ours, control = summary.arms[OURS][measure.key].seeds, summary.arms[summary.control][measure.key].seeds
    ahead = sum(a > b for a, b in zip(ours, control, strict=True))
    return f"{OURS} is ahead of {summary.control} in {ahead} of {len(ours)} seeds."


def _comparison(summary: Summary, figure: Figure, measure: Measure) -> str:
    name = measure.title[0].lower() + measure.title[1:] if measure.title != "kNN" else "kNN"
    if figure.difference is None or figure.difference_interval is None:
        return f"{OURS} is itself the control; nothing is compared."
    control = summary.arms[summary.control][measure.key]
    sentence = (
        f"{measure.title} accuracy is {number(measure, figure.mean)} % with synthesized pairs and "
        f"{number(measure, control.mean)} % for {summary.control}, which spends the same number of encoder "
        f"passes without them: {number(measure, figure.difference, signed=True)} points, 95 % interval "
        f"{span(measure, figure.difference_interval, signed=True)}."
    )
    return {
        "better": f"{sentence} The interval excludes zero.",
        "worse": f"{sentence} The interval excludes zero: here the pairs do harm.",
        "undecided": f"{sentence} The interval holds zero, so no gain is shown in {name} accuracy.",
    }[figure.verdict or "undecided"]


def _compared(summary: Summary, measure: Measure) -> bool:
    return any(
        measure.key in figures and figures[measure.key].difference is not None for figures in summary.arms.values()
    )


def _heading(measure: Measure) -> str:
    return f"{measure.title} %" if measure.percent else measure.title


def _name(arm: str, summary: Summary) -> str:
    if arm == OURS:
        return f"**{arm}**"
    return f"{arm} (control)" if arm == summary.control else arm


def _cell(measure: Measure, figure: Figure | None) -> str:
    if figure is None:
        return "–"
    text = number(measure, figure.mean)
    return f"{text} ({span(measure, figure.interval)})" if figure.interval else text


def _difference_cell(measure: Measure, figure: Figure | None) -> str:
    if figure is None or figure.difference is None or not figure.difference_interval or not figure.verdict:
        return "–"
    bounds = span(measure, figure.difference_interval, signed=True)
    return f"{number(measure, figure.difference, signed=True)} ({bounds}) {figure.verdict}"


def _markdown_table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of one table and the empty line after it; figures are right-aligned."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)] + [""]
