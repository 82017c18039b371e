"""Curves and histograms as SVG that follows the page's light or dark theme.

Matplotlib draws with marker colours, which are then replaced by the page's CSS variables; text stays text.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from discern.images.packed import evenly_spread

SIZE = (4.0, 2.7)  # inches; a panel is shown at about this size on a desk and on a phone
MAX_POINTS = 240  # of one line: more cannot be seen and would only weigh

# Stand-ins that no figure uses otherwise → the variables that style.css defines for both themes.
INK, MUTED, GRID, FIRST_METHOD = "#000001", "#000002", "#000003", 0x10
KEPT, PERTURBED = "#000004", "#000005"
METHOD_COLOURS = 8
_VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--line", KEPT: "--kept", PERTURBED: "--perturbed"} | {
    f"#0000{FIRST_METHOD + i:02x}": f"--method-{i}" for i in range(METHOD_COLOURS)
}


@dataclass(frozen=True)
class Curve:
    """One line of a panel.

    Attributes:
        colour: number of the method's colour, below METHOD_COLOURS; None for the shared base encoder.
        x: encoder passes per training image.
        y: the figure, NaN where it was not measured.
        chance: its value for an encoder that knows nothing, NaN where there is none.
    """

    colour: int | None
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    chance: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


def colour(number: int | None) -> str:
    """The stand-in colour of a method."""
    return MUTED if number is None else f"#0000{FIRST_METHOD + number:02x}"


def lines(
    name: str,
    label: str,
    curves: Sequence[Curve],
    *,
    level: float | None = None,
    percent: bool = False,
    bottom: float | None = None,
) -> str:
    """A panel of training curves.

    Args:
        name: unique in the page; keeps the ids of two SVGs apart.
        label: said to those who cannot see the picture.
        curves: lines, each with its own chance level where it has one.
        level: one dashed line for all, e.g. the accuracy of guessing.
        percent: True where y is a share.
        bottom: where the y axis begins.
    """
    with _panel(name) as (figure, axes):
        for curve in curves:
            measured = _thinned(np.flatnonzero(~np.isnan(curve.y)))
            style: dict[str, Any] = {"marker": "o", "markersize": 2.6} if len(measured) <= 40 else {}
            axes.plot(curve.x[measured], curve.y[measured], color=colour(curve.colour), lw=1.5, **style)
            known = np.flatnonzero(~np.isnan(curve.chance))
            if len(known):
                ends = known[[0, -1]]
                axes.plot(
                    curve.x[ends], curve.chance[ends], color=colour(curve.colour), lw=1, ls=(0, (4, 3)), alpha=0.7
                )
        if level is not None:
            axes.axhline(level, color=MUTED, lw=1, ls=(0, (4, 3)))
        if percent:
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
        if bottom is not None:
            axes.set_ylim(bottom=bottom)
        axes.set_xlim(left=0)
        axes.set_xlabel("encoder passes per training image")
        return _svg(figure, label)


def histogram(name: str, label: str, values: NDArray[np.float64], mask: NDArray[np.bool_], xlabel: str) -> str:
    """How a score is distributed over dimensions, the masked ones stacked on the kept ones; logarithmic."""
    positive = np.maximum(values, _floor(values))
    edges = np.geomspace(positive.min(), max(positive.max(), positive.min() * 1.01), 33)
    with _panel(name) as (figure, axes):
        axes.hist(
            [positive[~mask], positive[mask]],
            bins=edges.tolist(),
            stacked=True,
            color=[KEPT, PERTURBED],
            rwidth=0.92,
        )
        axes.set_xscale("log")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel(xlabel)
        axes.set_ylabel("dimensions")
        return _svg(figure, label)


def scatter(name: str, label: str, scores: pd.DataFrame) -> str:
    """Variance against importance, one dot for each dimension."""
    variance, importance = scores["variance"].to_numpy(float), scores["importance"].to_numpy(float)
    mask = scores["mask"].to_numpy(bool)
    with _panel(name) as (figure, axes):
        for chosen, shade in ((~mask, KEPT), (mask, PERTURBED)):
            axes.scatter(
                np.maximum(variance, _floor(variance))[chosen],
                np.maximum(importance, _floor(importance))[chosen],
                s=9,
                color=shade,
                alpha=0.65,
                linewidths=0,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("variance")
        axes.set_ylabel("importance")
        return _svg(figure, label)


@contextmanager
def _panel(name: str) -> Iterator[tuple[Figure, Axes]]:
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": GRID,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=SIZE, layout="constrained")
        yield figure, figure.add_subplot()


def _svg(figure: Figure, label: str) -> str:
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", metadata=metadata, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # The page scales it: the view box stays, the size in points goes.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, f"var({variable})")
    return svg


def _thinned(rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """At most MAX_POINTS of the rows, evenly spread, the first and the last among them."""
    return rows[evenly_spread(len(rows), MAX_POINTS)]


def _floor(values: NDArray[np.float64]) -> float:
    """What stands for zero on a logarithmic axis: the smallest positive value."""
    positive = values[values > 0]
    return float(positive.min()) if len(positive) else 1e-12
