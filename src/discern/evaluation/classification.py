"""What labels of frozen features tell: linear probe, kNN, MLP probe, label fractions and the majority floor."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from discern.embedding import knn
from discern.evaluation import fractions, mlp, probe
from discern.evaluation.findings import Findings, Labelled, Labels, interval, judged
from discern.evaluation.probe import LinearProbe
from discern.params.evaluation import Evaluate


@dataclass(frozen=True)
class Classified:
    """Findings, and what is kept beside them; None where there is no probe.

    Attributes:
        findings: of all classifiers.
        probe: the linear one, fitted on the whole of train.
        confusion: (C,C) test images by true (row) and predicted class (column) of the linear probe.
        subsets: path, subset and share of what the label fractions drew; None also where there are none.
    """

    findings: Findings
    probe: LinearProbe | None = None
    confusion: npt.NDArray[np.int64] | None = None
    subsets: pd.DataFrame | None = None


def classify(
    train: Labelled,
    val: Labelled,
    test: Labelled,
    paths: Sequence[str],
    n_classes: int,
    params: Evaluate,
    device: torch.device,
) -> Classified:
    """Fit every classifier on train and score it on test.

    Args:
        train: features (N,D) and class ids (N,), none negative.
        val: the same; the linear probe's strength is chosen on it, and methods are.
        test: features and class ids; images without label (negative) are predicted but not scored.
        paths: (N,) of the images of train.
        n_classes: C.
        params: of the protocol.
        device: where to compute.
    """
    features, labels = test
    known = labels >= 0
    if len(np.unique(train[1])) < 2 or not known.any():
        none = np.full(len(labels), np.nan)
        return Classified(
            Findings(
                outcomes=dict.fromkeys(("probe_pred", "knn_pred", "probe_correct", "knn_correct"), none),
                notes=["probe and kNN need two labelled classes in train and a labelled test image: left out"],
            )
        )
    fitted, found = _linear(train, val, test, n_classes, params)
    found.add(_neighbours(train, val, test, params, device))
    majority = np.bincount(train[1]).argmax()
    found.add(Findings({"floor": {"majority": float((labels[known] == majority).mean())}}))
    if params.mlp.epochs:
        found.add(judged("mlp", mlp.predict(train, features, params.mlp, device), labels, params.bootstrap))
    subsets = None
    if params.fractions.shares:
        drawn = fractions.draw(paths, train[1], params.fractions)
        found.add(fractions.fractions(train, val, test, drawn, n_classes, params.probe.strengths))
        subsets = drawn.table(paths)
    return Classified(found, fitted, confusion(found.outcomes["probe_pred"], labels, n_classes), subsets)


def confusion(predictions: Labels, labels: Labels, n_classes: int) -> npt.NDArray[np.int64]:
    """Images (C,C) by true class (row) and predicted one (column); those without label (negative) are left out."""
    known = labels >= 0
    cells = np.bincount(labels[known] * n_classes + predictions[known], minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)


def _linear(
    train: Labelled, val: Labelled, test: Labelled, n_classes: int, params: Evaluate
) -> tuple[LinearProbe, Findings]:
    fitted = probe.fit(train, val, n_classes, params.probe.strengths)
    scores = probe.score(fitted, *test)
    chosen = {} if fitted.val_top1 is None else {"val_top1": fitted.val_top1}
    figures = {
        **interval("top1", scores.correct, params.bootstrap),
        "top5": float(np.nanmean(scores.top5)),
        "balanced": scores.balanced,
        "macro_f1": scores.macro_f1,
        "strength": fitted.strength,
        **chosen,
    }
    outcomes = {"probe_pred": scores.predictions, "probe_correct": scores.correct}
    return fitted, Findings({"probe": figures}, outcomes, list(fitted.notes))


def _neighbours(
    train: Labelled, val: Labelled, test: Labelled, params: Evaluate, device: torch.device
) -> Findings:
    """The vote of k neighbours, on val too, and of many where no class has too few images to fill them."""
    features, labels = test
    known = labels >= 0

    def voted(k: int) -> tuple[knn.Vote, npt.NDArray[np.float64]]:
        vote = knn.vote(*train, features, k, params.knn.temperature, device)
        return vote, np.where(known, vote.predictions == labels, np.nan)

    vote, correct = voted(params.knn.k)
    figures = {**interval("top1", correct, params.bootstrap), "k": vote.k}
    outcomes = {"knn_pred": vote.predictions, "knn_correct": correct}
    if len(val[1]):
        on_val = knn.vote(*train, val[0], params.knn.k, params.knn.temperature, device)
        figures["val_top1"] = float((on_val.predictions == val[1]).mean())
    if np.unique(train[1], return_counts=True)[1].min() >= params.knn.large_k:
        vote_large, correct_large = voted(params.knn.large_k)
        figures |= {**interval("top1_large", correct_large, params.bootstrap), "large_k": vote_large.k}
        outcomes["knn_large_correct"] = correct_large
    return Findings({"knn": figures}, outcomes, [vote.note] if vote.note else [])
