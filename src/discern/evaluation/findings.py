"""What a part of the protocol hands over, and how per-image outcomes become a figure with its interval."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from discern.evaluation.bootstrap import mean_interval
from discern.params.evaluation import Bootstrap

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Labelled = tuple[Features, Labels]


@dataclass
class Findings:
    """What one part of the protocol found.

    Attributes:
        metrics: nested figures, as they go to metrics/methods/METHOD/SEED.json.
        outcomes: columns with one entry per test image; NaN where there is no outcome.
        notes: what was left out or done otherwise, for the reader of the figures.
    """

    metrics: dict[str, Any] = field(default_factory=dict)
    outcomes: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        """Take in another part's findings."""
        self.metrics |= other.metrics
        self.outcomes |= other.outcomes
        self.notes += other.notes


def interval(name: str, outcomes: npt.NDArray[np.float64], bootstrap: Bootstrap) -> dict[str, float]:
    """The mean of outcomes (N,) under `name`, and its 95 % interval under `name_low` and `name_high`."""
    found = mean_interval(outcomes, bootstrap.samples, bootstrap.seed)
    return {name: found.mean, f"{name}_low": found.low, f"{name}_high": found.high}


def judged(section: str, predictions: Labels, labels: Labels, bootstrap: Bootstrap) -> Findings:
    """Accuracy, balanced accuracy and macro F1 of predictions (N,), and whether each is right.

    Args:
        section: of the metrics; the outcome's column is `SECTION_correct`.
        predictions: class ids.
        labels: (N,) class ids, negative where unknown; at least one is known.
        bootstrap: of the interval.
    """
    known = labels >= 0
    correct = np.where(known, predictions == labels, np.nan)
    balanced, macro_f1 = class_means(predictions[known], labels[known])
    figures = {**interval("top1", correct, bootstrap), "balanced": balanced, "macro_f1": macro_f1}
    return Findings({section: figures}, {f"{section}_correct": correct})


def class_means(predictions: Labels, labels: Labels) -> tuple[float, float]:
    """Mean recall and mean F1 over the classes among the labels, each class counting as much as any other."""
    from sklearn.metrics import f1_score, recall_score

    kinds = {"labels": np.unique(labels), "average": "macro", "zero_division": 0}
    return float(recall_score(labels, predictions, **kinds)), float(f1_score(labels, predictions, **kinds))


def among_all(values: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Outcomes of the labelled images at their rows among all; NaN elsewhere."""
    column = np.full(len(known), np.nan)
    column[known] = values
    return column
