"""From the evaluations of every method and seed to the one table.

Outcomes are averaged over seeds image by image before resampling, so intervals and paired differences say
how much the choice of test images matters; the spread over seeds stands beside them.
"""

import json
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from discern.errors import DataError
from discern.evaluation.bootstrap import Interval, mean_interval, paired_difference
from discern.models.making import read_making
from discern.models.origin import Labels
from discern.params.pipeline import Params
from discern.report.summary import MEASURES, Figure, Measure, Summary, Verdict, rounded, share_measures
from discern.report.worth import BySeed, worth
from discern.workspace import Workspace

Outcomes = dict[str, NDArray[np.float64]]  # column → (N,) outcomes averaged over seeds, NaN where undefined


def summarise(params: Params, workspace: Workspace) -> Summary:
    """Aggregate every method of `params.methods` over `params.methods.seeds`.

    Raises:
        DataError: an evaluation is missing, or two methods were evaluated on different images.
        ModelError: an encoder is missing.
    """
    methods, seeds = params.methods.all, params.methods.seeds
    metrics = {method: [_metrics(workspace, method, seed) for seed in seeds] for method in methods}
    every = {method: _outcomes(workspace, method, seeds) for method in methods}
    outcomes = {method: _over_seeds(found) for method, found in every.items()}
    control = params.report.control
    samples, resampling_seed = params.evaluate.bootstrap.samples, params.evaluate.bootstrap.seed

    figures: dict[str, dict[str, Figure]] = {method: {} for method in methods}
    for method in methods:
        for measure in (*MEASURES, *share_measures(_keys(metrics[method]))):
            per_seed = [_value(one, measure) for one in metrics[method]]
            values = [value for value in per_seed if value is not None]
            if len(values) < len(seeds):
                continue
            figure: dict[str, Any] = {
                "mean": rounded(float(np.mean(values))),
                "seeds": [rounded(value) for value in values],
                "subsets": _over_subsets(metrics[method], measure),
            }
            ours = outcomes[method].get(measure.column or "")
            theirs = outcomes[control].get(measure.column or "")
            if ours is not None:
                bounds = mean_interval(ours, samples, resampling_seed)
                figure["interval"] = (rounded(bounds.low), rounded(bounds.high))
            elif len(seeds) == 1:
                figure["interval"] = _own_interval(metrics[method][0], measure)
            if ours is not None and theirs is not None and method != control:
                figure |= _comparison(ours, theirs, samples, resampling_seed)
            figures[method][measure.key] = Figure(**figure)
    first = metrics[control][0]
    return Summary(
        control=control,
        seeds=list(seeds),
        images={name: int(count) for name, count in first.get("images", {}).items()},
        floor=_floor(first),
        notes=list(
            dict.fromkeys(note for method in methods for one in metrics[method] for note in one.get("notes", []))
        ),
        methods=figures,
        worth=worth(params, metrics, every),
        labels=labels_seen(workspace, methods, seeds[0]),
    )


def labels_seen(workspace: Workspace, methods: list[str], seed: int) -> list[tuple[str, Labels]]:
    """Whether each method's weights saw labels; nothing where no method starts from given weights.

    Raises:
        ModelError: an encoder is missing.
    """
    made = {method: read_making(workspace.encoder(method, seed)) for method in methods}
    if not any(making.weights.given for making in made.values()):
        return []
    return [(method, making.labels) for method, making in made.items()]


def verdict(difference: Interval) -> Verdict:
    """What the interval of a difference says; more is better for every measure that is compared."""
    if not difference.excludes_zero:
        return "undecided"
    return "better" if difference.mean > 0 else "worse"


def _comparison(ours: NDArray[np.float64], theirs: NDArray[np.float64], samples: int, seed: int) -> dict[str, Any]:
    if len(ours) != len(theirs):
        raise DataError("data/embeddings: methods were evaluated on different test images; `dvc repro` mends it")
    difference = paired_difference(ours, theirs, samples, seed)
    return {
        "difference": rounded(difference.mean),
        "difference_interval": (rounded(difference.low), rounded(difference.high)),
        "verdict": verdict(difference),
    }


def _metrics(workspace: Workspace, method: str, seed: int) -> dict[str, Any]:
    path = workspace.metrics(method, seed)
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise DataError(f"{path}: {method} is not evaluated for seed {seed}; `dvc repro` does it") from error


def _value(metrics: dict[str, Any], measure: Measure) -> float | None:
    section, name = measure.key.split(".")
    value = metrics.get(section, {}).get(name)
    return None if value is None else float(value)


def _floor(metrics: dict[str, Any]) -> dict[str, float]:
    """What needs no encoder: guessing, and the share of pixels that localisation would hit by chance."""
    floor = dict(metrics.get("floor", {}))
    if "localisation" in metrics:
        floor["part_area"] = metrics["localisation"]["area"]
    return {name: rounded(float(value)) for name, value in floor.items()}


def _own_interval(metrics: dict[str, Any], measure: Measure) -> tuple[float, float] | None:
    """The interval that the evaluation itself gave, where no outcomes were kept."""
    section, name = measure.key.split(".")
    low, high = (metrics.get(section, {}).get(f"{name}_{bound}") for bound in ("low", "high"))
    return None if low is None or high is None else (rounded(low), rounded(high))


def _keys(metrics: list[dict[str, Any]]) -> set[str]:
    """`SECTION.NAME` of every figure of every seed."""
    sections = [(section, one) for found in metrics for section, one in found.items() if isinstance(one, dict)]
    return {f"{section}.{name}" for section, figures in sections for name in figures}


def _over_subsets(metrics: list[dict[str, Any]], measure: Measure) -> tuple[float, float] | None:
    """Lowest and highest over draws of training labels, where the figure is a mean over such."""
    section, name = measure.key.split(".")
    lows, highs = ([one.get(section, {}).get(f"{name}_{end}") for one in metrics] for end in ("min", "max"))
    if None in (*lows, *highs):
        return None
    return rounded(min(lows)), rounded(max(highs))


def _outcomes(workspace: Workspace, method: str, seeds: list[int]) -> BySeed:
    frames = [pd.read_parquet(workspace.embeddings(method, seed) / "outcomes.parquet") for seed in seeds]
    columns = {m.column for m in MEASURES if m.column and all(m.column in frame for frame in frames)}
    stacked = {
        column: np.stack([frame[column].to_numpy(np.float64, na_value=np.nan) for frame in frames])  # (S,N)
        for column in sorted(columns)
    }
    return {column: values for column, values in stacked.items() if not np.isnan(values.mean(axis=0)).all()}


def _over_seeds(outcomes: BySeed) -> Outcomes:
    return {column: values.mean(axis=0) for column, values in outcomes.items()}
