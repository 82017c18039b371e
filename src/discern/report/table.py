"""The summary in words: the verdict and the Markdown tables."""

from collections.abc import Callable, Sequence

from discern.params.pipeline import OURS
from discern.report.summary import (
    CLASS_MEANS,
    LABEL_FREE,
    LABELLED,
    OTHER_PROTOCOLS,
    SAW_LABELS,
    Figure,
    Measure,
    Summary,
    Verdict,
)

SHARES_TITLE = "Linear probe on a share of the labels"
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
    """The verdict on our method in one line."""
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
        if m != measure and (f := summary.methods[OURS].get(m.key)) is not None and f.difference is not None
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


def markdown(summary: Summary, opening: Sequence[str] = ()) -> str:
    """The tables of methods and the paired differences, as Markdown.

    Args:
        summary: what is shown.
        opening: a headline and sentences in the place of those about our method alone.
    """
    head, *rest = opening or (headline(summary), *explanation(summary))
    lines = [f"**{head}.** {' '.join(rest)}", ""]
    for group in (LABELLED, (*CLASS_MEANS, *OTHER_PROTOCOLS)):
        lines += _methods_table(summary, group, _cell)
    if shares := summary.shares:
        lines += [f"{SHARES_TITLE}, accuracy in percent; {spread_of(summary)}:", ""]
        lines += _methods_table(summary, shares, _share_cell)
    lines += _methods_table(summary, LABEL_FREE, _cell)
    differing = [m for m in summary.shown((*LABELLED, *OTHER_PROTOCOLS)) if compared(summary, m)]
    if differing:
        lines += [f"Difference to `{summary.control}`, paired by test image, in points:", ""]
        lines += _markdown_table(
            ["method", *(m.title for m in differing)],
            [
                [_name(method, summary), *(_difference_cell(m, figures.get(m.key)) for m in differing)]
                for method, figures in summary.methods.items()
                if method != summary.control
            ],
        )
    lines.append(
        f"95 % intervals from a bootstrap over test images; {len(summary.seeds)} seed(s): "
        f"{', '.join(map(str, summary.seeds))}."
    )
    return "\n".join(lines) + "\n"


def spread_of(summary: Summary) -> str:
    """What stands beside a figure on a share of the labels."""
    seeds = f" and {len(summary.seeds)} seeds" if len(summary.seeds) > 1 else ""
    return f"means over draws{seeds}, with the lowest and the highest: no interval"


def _primary(summary: Summary) -> tuple[Figure | None, Measure | None]:
    """Our figure on the first measure there is: the one that the verdict is about."""
    for measure in summary.shown(LABELLED):
        figure = summary.methods[OURS].get(measure.key)
        if figure is not None:
            return figure, measure
    return None, None


def _seeds_ahead(summary: Summary, measure: Measure) -> str:
    """In how many seeds our method is ahead: what the intervals do not cover."""
    ours, control = summary.methods[OURS][measure.key].seeds, summary.methods[summary.control][measure.key].seeds
    ahead = sum(a > b for a, b in zip(ours, control, strict=True))
    return f"{OURS} is ahead of {summary.control} in {ahead} of {len(ours)} seeds."


def _comparison(summary: Summary, figure: Figure, measure: Measure) -> str:
    name = measure.title[0].lower() + measure.title[1:] if measure.title != "kNN" else "kNN"
    if figure.difference is None or figure.difference_interval is None:
        return f"{OURS} is itself the control; nothing is compared."
    control = summary.methods[summary.control][measure.key]
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


def compared(summary: Summary, measure: Measure) -> bool:
    """Whether any method's difference to the control is known."""
    return any(
        measure.key in figures and figures[measure.key].difference is not None
        for figures in summary.methods.values()
    )


def heading(measure: Measure) -> str:
    """The title of a column, with its unit; a share of the labels is headed by that share alone."""
    percent = measure.percent and not measure.title.endswith("%")
    return f"{measure.title} %" if percent else measure.title


def _name(method: str, summary: Summary) -> str:
    if method == OURS:
        return f"**{method}**"
    return f"{method} (control)" if method == summary.control else method


def _cell(measure: Measure, figure: Figure | None) -> str:
    if figure is None:
        return "–"
    text = number(measure, figure.mean)
    return f"{text} ({span(measure, figure.interval)})" if figure.interval else text


def _methods_table(
    summary: Summary, group: tuple[Measure, ...], cell: Callable[[Measure, Figure | None], str]
) -> list[str]:
    """One row for each method, one column for each measure that there is; nothing where there is none.

    Where any method starts from given weights, a column says whose weights saw labels.
    """
    measures = summary.shown(group)
    if not measures:
        return []
    seen = dict(summary.labels)
    rows = [
        [
            _name(method, summary),
            *([seen[method]] if seen else []),
            *(cell(m, figures.get(m.key)) for m in measures),
        ]
        for method, figures in summary.methods.items()
    ]
    saw = [SAW_LABELS] if seen else []
    return _markdown_table(["method", *saw, *(heading(m) for m in measures)], rows)


def _share_cell(measure: Measure, figure: Figure | None) -> str:
    if figure is None:
        return "–"
    text = number(measure, figure.mean)
    return f"{text} ({span(measure, figure.subsets)})" if figure.subsets else text


def _difference_cell(measure: Measure, figure: Figure | None) -> str:
    if figure is None or figure.difference is None or not figure.difference_interval or not figure.verdict:
        return "–"
    bounds = span(measure, figure.difference_interval, signed=True)
    return f"{number(measure, figure.difference, signed=True)} ({bounds}) {figure.verdict}"


def _markdown_table(heads: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of one table and the empty line after it; figures are right-aligned."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)] + [""]
