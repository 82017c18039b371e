"""The protocol as a whole: one frozen encoder in; figures, per-image outcomes and heat maps out.

Labels of val choose the probe's strength, labels of test only score. Where labels or part masks are missing,
the figures that can be had are given, and a note says what was left out.
"""

from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from discern.embedding.features import Extract, extract
from discern.errors import DataError
from discern.evaluation import finetune, retrieval
from discern.evaluation.classification import classify
from discern.evaluation.findings import Features, Findings, Labelled, Labels, among_all, interval, judged
from discern.evaluation.label_free import label_free
from discern.evaluation.large_head import large_head
from discern.evaluation.localisation import grad_cams, heat_maps, localise
from discern.evaluation.probe import LinearProbe
from discern.images.packed import evenly_spread
from discern.images.views import Augment
from discern.models.encoder import has_feature_map
from discern.params.base import Base
from discern.params.encoder import SRGANGenerator
from discern.params.evaluation import Bootstrap, Evaluate

if TYPE_CHECKING:
    from discern.images.packed import PackedSplit
    from discern.models.encoder import ImageEncoder

VIEWS_SEED = 0  # every method and seed sees the same two augmented views of a test image
NEIGHBOURS = 12
HEAT_MAPS = 24

Where = tuple[torch.device, int, Any]  # device, batch size and precision of a pass over images


@dataclass(frozen=True)
class Evaluation:
    """Everything that evaluating one encoder gives.

    Attributes:
        findings: of all parts together.
        features: (N,D) of the test images.
        heat_maps: (n,S,S) Grad-CAM of the probe's logit of the true class (of the predicted one, where the
            probe does not know the true class), or None without a probe or without a feature map.
        heat_map_rows: (n,) test rows of `heat_maps`, evenly spread.
        confusion: (C,C) test images by true (row) and predicted class of the probe, or None without a probe.
        subsets: path, subset and share of the images of the label fractions, or None where there are none.
    """

    findings: Findings
    features: Features
    heat_maps: npt.NDArray[np.uint8] | None
    heat_map_rows: npt.NDArray[np.int64]
    confusion: npt.NDArray[np.int64] | None = None
    subsets: pd.DataFrame | None = None


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
        params: of every part of the protocol.
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

    classified = classify(
        _labelled(run, train),
        _labelled(run, val),
        (features, test.labels),
        train.index["path"][train.labels >= 0].tolist(),
        len(test.classes),
        params,
        device,
    )
    findings.add(classified.findings)
    rows = evenly_spread(len(features), HEAT_MAPS)
    drawn = None
    if classified.probe is not None:
        if params.finetune.layers != "none":
            findings.add(_finetuned(encoder, train, test, params, base, device))
        if params.large_head.epochs and isinstance(encoder.params, SRGANGenerator):
            heads = large_head(encoder, train, val, test, params.large_head, device, base.precision)
            findings.metrics["large_head"] = heads
        where = (device, base.batch_size, base.precision)
        predictions = findings.outcomes["probe_pred"]
        looked, drawn = _looked(encoder, test, rows, classified.probe, predictions, params.bootstrap, where)
        findings.add(looked)
    return Evaluation(findings, features, drawn, rows, classified.confusion, classified.subsets)


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
        **interval("rank1", result.rank1, bootstrap),
        "rank5": float(np.nanmean(result.rank5)),
        **interval("map", result.ap, bootstrap),
        "excluded": result.excluded,
    }
    found.outcomes |= {"rank1_correct": among_all(result.rank1, known), "ap": among_all(result.ap, known)}
    return found


def _finetuned(
    encoder: "ImageEncoder",
    train: "PackedSplit",
    test: "PackedSplit",
    params: Evaluate,
    base: Base,
    device: torch.device,
) -> Findings:
    labelled = train.images, train.labels
    predictions = finetune.predict(encoder, labelled, test.images, params.finetune, base, device)
    if predictions is None:
        return Findings(notes=["fine-tuning: the encoder has nothing to train: left out"])
    found = judged("finetune", predictions, test.labels, params.bootstrap)
    what = "the whole encoder" if params.finetune.layers == "all" else "the encoder's last stage"
    found.notes.append(f"fine-tuning: {what} and a linear head, {params.finetune.epochs} epochs")
    return found


def _looked(
    encoder: "ImageEncoder",
    test: "PackedSplit",
    rows: npt.NDArray[np.int64],
    fitted: LinearProbe,
    predictions: Labels,
    bootstrap: Bootstrap,
    where: Where,
) -> tuple[Findings, npt.NDArray[np.uint8] | None]:
    """Localisation, and heat maps (n,S,S) at `rows`: where the probe looks; None without a feature map."""
    if not has_feature_map(encoder):
        return Findings(notes=["heat maps and localisation need an encoder with a feature map: left out"]), None
    found = Findings()
    known = test.labels >= 0
    if test.parts is not None:
        weight = np.where(known[:, None], fitted.weight[test.labels], 0.0)
        found.add(_localisation(encoder, test, weight, bootstrap, where))
    target = np.where(known & np.isfinite(fitted.bias)[test.labels], test.labels, predictions)
    cams = grad_cams(encoder, test.images[rows], fitted.weight[target[rows]], *where)
    return found, heat_maps(np.concatenate(list(cams)))


def _localisation(
    encoder: "ImageEncoder",
    test: "PackedSplit",
    weight: npt.NDArray[np.float64],
    bootstrap: Bootstrap,
    where: Where,
) -> Findings:
    assert test.parts is not None
    found = localise(encoder, test.images, test.parts, weight, *where)
    if found.excluded == len(found.energy):
        return Findings(notes=["localisation needs a part mask and a heat map on one image: left out"])
    energy = interval("energy", found.energy, bootstrap)
    area = float(np.nanmean(found.area))
    figures = {**energy, "area": area, "excluded": found.excluded}
    return Findings({"localisation": figures}, {"energy": found.energy})
