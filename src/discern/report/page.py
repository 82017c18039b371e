"""reports/report.html: everything that the pipeline found out, in one file that needs nothing else."""

import json
import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from discern.params.pipeline import OURS, Params
from discern.report import curves, pictures, results
from discern.report.confusions import most_confused
from discern.report.described import methods
from discern.report.html import environment
from discern.report.reproduction import duration, reproduction
from discern.report.summary import Summary
from discern.report.table import SHARES_TITLE, SYMBOLS, spread_of
from discern.report.worth import opening
from discern.version import __version__
from discern.workspace import Workspace

CONFUSED = 6  # pairs of classes named on the page


def render(params: Params, workspace: Workspace, summary: Summary) -> str:
    """The page as HTML; what is missing in the workspace is left out, with a sentence in its place.

    Args:
        params: `report`, `methods` and `base` decide what is shown; the others are only described.
        workspace: where figures, curves and pictures lie.
        summary: the table of methods.
    """
    jinja = environment("discern.report")
    jinja.filters["duration"] = duration
    jinja.filters["breakable"] = _breakable
    described = methods(params, workspace)
    seed, shown = params.methods.seeds[0], params.report.examples
    head, *rest = opening(summary, workspace)
    content: dict[str, Any] = {
        "version": __version__,
        "params": params,
        "summary": summary,
        "ours": OURS,
        "symbols": SYMBOLS,
        "headline": head,
        "explanation": rest,
        "methods": described,
        "tiles": results.tiles(summary, described),
        "tables": results.tables(summary, described),
        "shares_title": SHARES_TITLE,
        "shares_spread": spread_of(summary),
        "confused": most_confused(workspace, seed, CONFUSED),
        "training": curves.training(params, workspace, summary.images.get("classes", 0)),
        "scores": curves.scores(workspace, seed),
        "reconstructions": pictures.reconstructions(workspace, seed, shown),
        "pairs": pictures.pairs(workspace, seed, shown),
        "super_resolution": pictures.super_resolution(workspace, params.methods.all, seed, shown),
        "heat_maps": pictures.heat_maps(workspace, _compared(params), seed, shown),
        "neighbours": pictures.neighbours(workspace, seed, params.report.queries, params.report.neighbours),
        "examples": pictures.examples(workspace, shown),
        "classes": pictures.classes(workspace),
        "base": _json(workspace.stage_metrics("base", seed)),
        "agreement": _json(workspace.stage_metrics("scores", seed)),
        "source": _json(workspace.raw / "source.json"),
        "counts": _figures(_json(workspace.data_metrics) or summary.images),
        "reproduction": reproduction(workspace, params.described),
    }
    return jinja.get_template("report.html.j2").render(content)


def _breakable(name: str) -> Markup:
    """A class name that may break after its underscores and hyphens, and nowhere else."""
    return Markup("<wbr>").join(re.split(r"(?<=[_-])", name))


def _compared(params: Params) -> list[str]:
    return list(dict.fromkeys((OURS, params.report.control)))


def _json(path: Any) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _figures(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Leaves of a nested mapping as `name of leaf` → text, lists left out."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            flat |= _figures(value, f"{name}, ")
        elif key == "bytes":
            flat["size"] = f"{value / 1e6:,.1f} MB"
        elif not isinstance(value, list):
            flat[name] = f"{value:,}" if isinstance(value, int) else str(value)
    return flat
