"""Linear probe: L2-regularised logistic regression on standardised frozen features."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from discern.embedding.features import FloatArray
from discern.evaluation.findings import class_means

_MAX_ITERATIONS = 1000
# Multiplications of one matrix product below which BLAS gets one thread. OpenBLAS's threads wait for each other at
# every small product: beside another busy process, two took 42 s for a fit that takes one 0.9 s. It also makes the
# fit independent of the number of threads.
_SMALL = 1e9


@dataclass(frozen=True)
class LinearProbe:
    """A fitted probe; weights act on the features as they are (the standardisation is folded in).

    Attributes:
        weight: (C,D); zero rows for classes without a labelled training image.
        bias: (C,); -inf for those classes, which are never predicted.
        strength: chosen C of scikit-learn (inverse regularisation, on the sum of the losses).
        val_top1: accuracy on val at that strength; None where val has no labels.
        notes: what a reader of the figures must know.
    """

    weight: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    strength: float
    val_top1: float | None
    notes: tuple[str, ...]

    def logits(self, features: FloatArray) -> npt.NDArray[np.float64]:
        """(N,D) → (N,C)."""
        return np.asarray(features, dtype=np.float64) @ self.weight.T + self.bias

    def probabilities(self, features: FloatArray) -> npt.NDArray[np.float64]:
        """(N,D) → (N,C), rows summing to 1."""
        logits = self.logits(features)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class Scores:
    """What a probe does on one split.

    Attributes:
        predictions: (N,) class ids.
        correct: (N,) 1 where the prediction is the label, else 0; NaN without label. A class that training
            has not shown counts as wrong.
        top5: (N,) the same for the five most probable classes (always 1 with five classes or fewer).
        balanced: mean recall over the classes among the labels.
        macro_f1: mean F1 over the same classes.
    """

    predictions: npt.NDArray[np.int64]
    correct: npt.NDArray[np.float64]
    top5: npt.NDArray[np.float64]
    balanced: float
    macro_f1: float


def fit(
    train: tuple[FloatArray, npt.NDArray[np.int64]],
    val: tuple[FloatArray, npt.NDArray[np.int64]],
    n_classes: int,
    strengths: Sequence[float],
) -> LinearProbe:
    """Fit on train at every strength and keep the best on val; of equals, the strongest regularisation.

    Args:
        train: features (N,D) and class ids (N,); rows with a negative id are left out. At least two classes.
        val: the same; without any labelled row the middle strength is taken, and noted.
        n_classes: C.
        strengths: values of C to try.
    """
    X, y = _labelled(*train)
    X_val, y_val = _labelled(*val)
    mean, scale = standardisation(X)
    strengths = sorted(strengths)
    notes: list[str] = []
    if not len(y_val):
        strengths = [strengths[(len(strengths) - 1) // 2]]
        notes.append(f"probe: val has no labelled images; strength {strengths[0]:g} is the middle one, not chosen")

    best: LinearProbe | None = None
    for strength, coef, intercept, converged in _path((X - mean) / scale, y, strengths):
        weight, bias = np.zeros((n_classes, X.shape[1])), np.full(n_classes, -np.inf)
        present = np.unique(y)
        weight[present] = coef / scale
        bias[present] = intercept - (coef / scale) @ mean
        trial = LinearProbe(weight, bias, strength, None, ())
        accuracy = float((trial.logits(X_val).argmax(axis=1) == y_val).mean()) if len(y_val) else None
        if best is None or (accuracy or 0) > (best.val_top1 or 0):
            slow = (
                () if converged else (f"probe: not converged in {_MAX_ITERATIONS} iterations at C = {strength:g}",)
            )
            best = LinearProbe(weight, bias, strength, accuracy, (*notes, *slow))
    assert best is not None, "params allow no empty list of strengths"
    return best


def score(probe: LinearProbe, features: FloatArray, labels: npt.NDArray[np.int64]) -> Scores:
    """Outcome of every image; at least one label must be known.

    Args:
        probe: fitted.
        features: (N,D).
        labels: (N,) class ids, negative where unknown.
    """
    logits = probe.logits(features)
    predictions = logits.argmax(axis=1)
    known = labels >= 0
    # A never-seen class has logit -inf: it must not count as found where fewer than five classes are seen.
    found = np.argsort(-logits, axis=1, kind="stable")[:, :5] == labels[:, None]
    top5 = found.any(axis=1) & np.isfinite(probe.bias)[labels]
    balanced, macro_f1 = class_means(predictions[known], labels[known])
    return Scores(
        predictions=predictions,
        correct=np.where(known, predictions == labels, np.nan),
        top5=np.where(known, top5, np.nan),
        balanced=balanced,
        macro_f1=macro_f1,
    )


def standardisation(X: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Means and standard deviations (D,) of features (N,D).

    1 stands for the deviation of dimensions that do not vary, so that rounding noise is not blown up.
    """
    std = X.std(axis=0)
    return X.mean(axis=0), np.where(std > 1e-6 * std.max(), std, 1.0)


def _labelled(
    features: FloatArray, labels: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    known = labels >= 0
    return np.asarray(features[known], dtype=np.float64), labels[known]


def _path(
    X: npt.NDArray[np.float64], y: npt.NDArray[np.int64], strengths: Sequence[float]
) -> list[tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64], bool]]:
    """(strength, weights (C',D), biases (C',), converged) at rising strengths, each begun at the last."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = LogisticRegression(solver="lbfgs", max_iter=_MAX_ITERATIONS, warm_start=True)
    path = []
    threads = 1 if X.size * len(np.unique(y)) < _SMALL else None
    for strength in strengths:
        with warnings.catch_warnings(), threadpool_limits(threads, user_api="blas"):
            warnings.simplefilter("ignore", ConvergenceWarning)  # told by `converged` instead
            model.set_params(C=strength).fit(X, y)
        coef, intercept = model.coef_.copy(), model.intercept_.copy()
        if len(coef) == 1:  # two classes: one logit z, which is softmax over (-z/2, z/2)
            coef, intercept = np.vstack((-coef, coef)) / 2, np.concatenate((-intercept, intercept)) / 2
        path.append((strength, coef, intercept, bool(model.n_iter_.max() < _MAX_ITERATIONS)))
    return path
