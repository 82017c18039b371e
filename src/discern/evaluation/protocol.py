"""The protocol as a whole: one frozen encoder in; figures, per-image outcomes and heat maps out.

Labels of val choose the probe's strength, labels of test only score. Where labels or part masks are missing,
the figures that can be had are given, and a note says what was left out.
"""

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from discern.data.views import Augment
from discern.errors import DataError
from discern.evaluation import knn, probe, retrieval
from discern.evaluation.bootstrap import mean_interval
from discern.evaluation.features import Extract, extract
from discern.evaluation.label_free import label_free
from discern.evaluation.localisation import grad_cams, heat_maps, localise
from discern.params.pipeline import Bootstrap, Evaluate
from discern.params.training import Base

if TYPE_CHECKING:
    from discern.data.packed import PackedSplit
    from discern.models.encoder import ImageEncoder

VIEWS_SEED = 0  # every arm and seed sees the same two augmented views of a test image
NEIGHBOURS = 12
HEAT_MAPS = 24

Features = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Labelled = tuple[Features, Labels]


@dataclass
class Findings:
    """What one part of the protocol found.

    Attributes:
        metrics: nested figures, as they go to metrics/arms/ARM/SEED.json.
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


@dataclass(frozen=True)
class Evaluation:
    """Everything that evaluating one encoder gives.

    Attributes:
        findings: of all parts together.
        features: (N,D) of the test images.
        heat_maps: (n,S,S) Grad-CAM of the probe's logit of the true class (of the predicted one, where the
            probe does not know the true class), or None without a probe.
        heat_map_rows: (n,) test rows of `heat_maps`, evenly spread.
    """

    findings: Findings
    features: Features
    heat_maps: npt.NDArray[np.uint8] | None
    heat_map_rows: npt.NDArray[np.int64]


def evaluate(
    encoder: "ImageEncoder",
    train: "PackedSplit",
    val: "PackedSplit",
    test: "PackedSplit",
    params: Evaluate,
    base: Base,
    device: torch.device,
) -> Evaluation:
    """Evaluate one encoder.

    Args:
        encoder: moved to `device`.
        train: what the probe and the nearest neighbours learn from.
        val: what the probe's strength is chosen on.
        test: what is scored.
        params: k, temperature, strengths and bootstrap.
        base: views, precision and batch size, as in training.
        device: where to compute.

    Raises:
        DataError: test holds fewer than two images, so there is nothing to compare.
    """
    if len(test.labels) < 2:
        raise DataError("data/packed/test: fewer than two images; give the test split more")
    encoder = encoder.to(device)
    run: Extract = partial(extract, encoder, device=device, batch_size=base.batch_size, precision=base.precision)
    features = run(test.images)
    splits = {"train": train, "val": val, "test": test}
    findings = Findings({"images": {name: len(s.labels) for name, s in splits.items()}})
    findings.metrics["images"]["classes"] = len(test.classes)
    findings.add(_label_free(run, test, features, base, device))
    findings.add(_retrieval(features, test.labels, params.bootstrap, device))

    fitted, classified = _classification(
        _labelled(run, train), _labelled(run, val), (features, test.labels), len(test.classes), params, device
    )
    findings.add(classified)
    rows = np.unique(np.linspace(0, len(features) - 1, HEAT_MAPS).round().astype(np.int64))
    if fitted is None:
        return Evaluation(findings, features, None, rows)

    known = test.labels >= 0
    where = (device, base.batch_size, base.precision)
    if test.parts is not None:
        weight = np.where(known[:, None], fitted.weight[test.labels], 0.0)
        findings.add(_localisation(encoder, test, weight, params.bootstrap, where))
    target = np.where(known & np.isfinite(fitted.bias)[test.labels], test.labels, findings.outcomes["probe_pred"])
    cams = grad_cams(encoder, test.images[rows], fitted.weight[target[rows]], *where)
    return Evaluation(findings, features, heat_maps(np.concatenate(list(cams))), rows)


def _labelled(run: Extract, split: "PackedSplit") -> Labelled:
    """Features and labels of the labelled images; nothing is extracted where there are none."""
    known = split.labels >= 0
    features = run(split.images)[known] if known.any() else np.empty((0, 0), np.float32)
    return features, split.labels[known]


def _label_free(
    run: Extract, test: "PackedSplit", features: Features, base: Base, device: torch.device
) -> Findings:
    augment = Augment(base.views, test.images.shape[1], VIEWS_SEED)
    first, second = (run(test.images, prepare=partial(augment, epoch=0, view=view)) for view in (0, 1))
    return Findings({"label_free": asdict(label_free(features, first, second, device))})


def _retrieval(features: Features, labels: Labels, bootstrap: Bootstrap, device: torch.device) -> Findings:
    """Retrieval among the labelled test images, and the nearest neighbours among all."""
    rows, similarity = retrieval.nearest(features, NEIGHBOURS, device)
    none = np.full(len(labels), np.nan)
    found = Findings(
        outcomes={"rank1_correct": none, "ap": none, "neighbours": rows, "neighbour_similarity": similarity}
    )
    known = labels >= 0
    counts = np.unique(labels[known], return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        found.notes.append("retrieval needs two labelled classes in test, one with two images: left out")
        return found
    result = retrieval.leave_one_out(features[known], labels[known], device)
    found.metrics["retrieval"] = {
        **_interval("rank1", result.rank1, bootstrap),
        "rank5": float(np.nanmean(result.rank5)),
        **_interval("map", result.ap, bootstrap),
        "excluded": result.excluded,
    }
    found.outcomes |= {"rank1_correct": _spread(result.rank1, known), "ap": _spread(result.ap, known)}
    return found


def _classification(
    train: Labelled, val: Labelled, test: Labelled, n_classes: int, params: Evaluate, device: torch.device
) -> tuple[probe.LinearProbe | None, Findings]:
    """Linear probe, kNN and the majority floor; images without label are predicted but not scored."""
    features, labels = test
    known = labels >= 0
    if len(np.unique(train[1])) < 2 or not known.any():
        none = np.full(len(labels), np.nan)
        return None, Findings(
            outcomes=dict.fromkeys(("probe_pred", "knn_pred", "probe_correct", "knn_correct"), none),
            notes=["probe and kNN need two labelled classes in train and a labelled test image: left out"],
        )
    fitted = probe.fit(train, val, n_classes, params.probe.strengths)
    scores = probe.score(fitted, features, labels)
    voted = knn.vote(*train, features, params.knn.k, params.knn.temperature, device)
    knn_correct = np.where(known, voted.predictions == labels, np.nan)
    majority = np.bincount(train[1]).argmax()
    chosen = {} if fitted.val_top1 is None else {"val_top1": fitted.val_top1}
    return fitted, Findings(
        metrics={
            "probe": {
                **_interval("top1", scores.correct, params.bootstrap),
                "top5": float(np.nanmean(scores.top5)),
                "balanced": scores.balanced,
                "macro_f1": scores.macro_f1,
                "strength": fitted.strength,
                **chosen,
            },
            "knn": {**_interval("top1", knn_correct, params.bootstrap), "k": voted.k},
            "floor": {"majority": float((labels[known] == majority).mean())},
        },
        outcomes={
            "probe_pred": scores.predictions,
            "knn_pred": voted.predictions,
            "probe_correct": scores.correct,
            "knn_correct": knn_correct,
        },
        notes=[*fitted.notes, *([voted.note] if voted.note else [])],
    )


def _localisation(
    encoder: "ImageEncoder",
    test: "PackedSplit",
    weight: npt.NDArray[np.float64],
    bootstrap: Bootstrap,
    where: tuple[torch.device, int, Any],
) -> Findings:
    assert test.parts is not None
    found = localise(encoder, test.images, test.parts, weight, *where)
    if found.excluded == len(found.energy):
        return Findings(notes=["localisation needs a part mask and a heat map on one image: left out"])
    energy = _interval("energy", found.energy, bootstrap)
    area = float(np.nanmean(found.area))
    figures = {**energy, "area": area, "excluded": found.excluded}
    return Findings({"localisation": figures}, {"energy": found.energy})


def _interval(name: str, outcomes: npt.NDArray[np.float64], bootstrap: Bootstrap) -> dict[str, float]:
    interval = mean_interval(outcomes, bootstrap.samples, bootstrap.seed)
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _spread(values: npt.NDArray[np.float64], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Outcomes of the labelled images at their rows among all; NaN elsewhere."""
    column = np.full(len(known), np.nan)
    column[known] = values
    return column
