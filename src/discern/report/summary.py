"""What the tables of methods hold: every figure with its interval and its difference to the control.

A column is one protocol: what is scored in another way stands in a column of its own. `discern.report.aggregate`
makes it from the evaluations, metrics/summary.json keeps it, and `discern.report.table`, `discern.report.terminal`
and the HTML page draw it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from discern.errors import DataError
from discern.models.origin import Labels
from discern.params.pipeline import OURS

DIGITS = 6  # of the written figures: far below any interval, and the same whichever BLAS summed them
Verdict = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Measure:
    """One column of the table.

    Attributes:
        key: section and name in metrics/methods/METHOD/SEED.json.
        title: name for people.
        column: per-image outcome in outcomes.parquet whose mean is the figure, or None where there is none
            (then there is no interval either).
        percent: True where the figure is a share, shown times 100.
        short: name where there is little room.
    """

    key: str
    title: str
    column: str | None = None
    percent: bool = False
    short: str = ""


LABELLED = (
    Measure("probe.top1", "Linear probe", "probe_correct", percent=True, short="Probe"),
    Measure("knn.top1", "kNN", "knn_correct", percent=True, short="kNN"),
    Measure("retrieval.rank1", "Retrieval rank-1", "rank1_correct", percent=True, short="Rank-1"),
    Measure("retrieval.map", "Retrieval mAP", "ap", percent=True, short="mAP"),
    Measure("localisation.energy", "Localisation", "energy", percent=True, short="Locate"),
)
LABEL_FREE = (
    Measure("label_free.view_rank1", "View rank-1", percent=True, short="Rank-1"),
    Measure("label_free.alignment", "Alignment"),
    Measure("label_free.uniformity", "Uniformity"),
    Measure("label_free.effective_rank", "Effective rank"),
    Measure("label_free.std", "Spread (std)"),
)
# Of the linear probe too, but with no outcome of their own per image.
CLASS_MEANS = (
    Measure("probe.balanced", "Balanced accuracy", percent=True),
    Measure("probe.macro_f1", "Macro F1", percent=True),
)
# Each a protocol of its own, for methods that have it.
OTHER_PROTOCOLS = (
    Measure("knn.top1_large", "kNN, large k", "knn_large_correct", percent=True),
    Measure("mlp.top1", "MLP probe", "mlp_correct", percent=True),
    Measure("finetune.top1", "Fine-tuning", "finetune_correct", percent=True),
    Measure("head.top1", "Own head", "head_correct", percent=True),
    Measure("large_head.top1", "Large head", percent=True),
)
ALL_LABELS = Measure("probe.top1", "100 %", percent=True)
SAW_LABELS = "Labels seen by its weights"
MEASURES = (*LABELLED, *CLASS_MEANS, *OTHER_PROTOCOLS, *LABEL_FREE)
SHARE = re.compile(r"fractions\.top1_(\d+)")


def rounded(value: float) -> float:
    """A figure as it is written."""
    return round(float(value), DIGITS)


def share_measures(keys: Iterable[str]) -> tuple[Measure, ...]:
    """The probe on a share of the labels: one measure for each share among `keys`, the smallest first."""
    percents = sorted({int(found[1]) for key in keys if (found := SHARE.fullmatch(key))})
    return tuple(Measure(f"fractions.top1_{p}", f"{p} %", percent=True) for p in percents)


class Figure(BaseModel):
    """One figure of one method. Lists keep bounds out of the columns of `dvc exp show`.

    Attributes:
        mean: over seeds.
        interval: 95 % bootstrap interval over test images, of outcomes averaged over seeds.
        seeds: the figure of every seed.
        subsets: lowest and highest over draws of training labels, of all seeds; no interval.
        difference: method minus control, paired by test image.
        difference_interval: its 95 % interval.
        verdict: whether that interval excludes 0, and on which side.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    seeds: list[float]
    interval: tuple[float, float] | None = None
    subsets: tuple[float, float] | None = None
    difference: float | None = None
    difference_interval: tuple[float, float] | None = None
    verdict: Verdict | None = None

    @property
    def spread(self) -> tuple[float, float]:
        """Smallest and largest figure over seeds."""
        return min(self.seeds), max(self.seeds)


Answer = Literal["yes", "no", "undecided", "not measured"]


class Difference(BaseModel):
    """Trained minus frozen on one measure, with its 95 % interval over images and seeds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: float
    interval: tuple[float, float]


class Worth(BaseModel):
    """The answer.

    Attributes:
        answer: yes, where a measure is better and none worse; no, where one is worse and none better; undecided
            otherwise; not measured, where there are no labels.
        frozen: the encoder that training started from.
        trained: of the methods that see no labels and were trained, the one with the best kNN on val.
        recommended: what to use.
        seeds: that both were evaluated with.
        differences: by `Measure.key`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer: Answer
    frozen: str
    trained: str
    recommended: str
    seeds: int
    differences: dict[str, Difference]


class Summary(BaseModel):
    """metrics/summary.json.

    Attributes:
        control: the method that every other is compared with.
        seeds: seeds that every method was trained with.
        images: numbers of images by split, and of classes.
        floor: what needs no encoder, e.g. the accuracy of always naming the largest class.
        notes: what the evaluations had to leave out, and why.
        methods: figures by method, then by `Measure.key`; the order is the table's.
        worth: whether training was worth it; None where it does not start from given weights.
        labels: whether each method's weights saw labels, those it started from or by its own training; empty where
            no method starts from given weights. A list, for the same reason as bounds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    control: str
    seeds: list[int]
    images: dict[str, int]
    floor: dict[str, float]
    notes: list[str]
    methods: dict[str, dict[str, Figure]]
    worth: Worth | None = None
    labels: list[tuple[str, Labels]] = []

    @property
    def labelled(self) -> bool:
        """True where there are figures that need labels."""
        return bool(self.shown(LABELLED))

    @property
    def shares(self) -> tuple[Measure, ...]:
        """Columns of the table of label fractions, all labels last; none where no share was scored."""
        parts = share_measures(key for figures in self.methods.values() for key in figures)
        return (*parts, ALL_LABELS) if parts else ()

    def shown(self, measures: tuple[Measure, ...]) -> list[Measure]:
        """Those of the measures that at least one method has."""
        return [m for m in measures if any(m.key in figures for figures in self.methods.values())]

    def write(self, path: Path) -> None:
        """Write it as JSON with a newline at the end; equal summaries give equal bytes."""
        path.write_text(self.model_dump_json(indent=2, exclude_none=True) + "\n", encoding="utf-8")


def read_summary(path: Path) -> Summary:
    """Read metrics/summary.json.

    Raises:
        DataError: it is missing, or not a summary of this version.
    """
    try:
        return Summary.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no results yet; `dvc repro` (or `make demo`) makes them") from error
    except ValidationError as error:
        raise DataError(f"{path}: not a summary of this version; `dvc repro -f report` writes it anew") from error


def recommended(root: Path) -> tuple[str, int, bool]:
    """Method and seed of the encoder to use where nobody says which, and whether a report recommends it.

    Ours, of seed 0, where there is no report, or none that compares with frozen weights.
    """
    try:
        summary = read_summary(root / "metrics" / "summary.json")
    except DataError:
        return OURS, 0, False
    if summary.worth is None:
        return OURS, summary.seeds[0], False
    return summary.worth.recommended, summary.seeds[0], True
