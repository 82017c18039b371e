"""Linear probe on a share of the training labels: how far an encoder gets where few images are labelled.

Which images are drawn moves such figures by more than most methods differ, so the draws are a function of seed,
draw and path alone: every method, every training seed and every machine gets the same, and they are written down.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from discern.evaluation import probe
from discern.evaluation.findings import Findings, Labelled, Labels
from discern.params.evaluation import Fractions


@dataclass(frozen=True)
class Subsets:
    """Draws of labelled training images; the smaller share of a draw lies inside the larger.

    Attributes:
        shares: of the labels, rising.
        smallest: (draws,N) number of the smallest share that an image belongs to; `len(shares)` where none.
    """

    shares: tuple[float, ...]
    smallest: npt.NDArray[np.int64]

    def rows(self, draw: int, share: int) -> npt.NDArray[np.intp]:
        """Rows of the images of one draw's share, both by number."""
        return np.flatnonzero(self.smallest[draw] <= share)

    def table(self, paths: Sequence[str]) -> pd.DataFrame:
        """One row for each draw and image in it: path, subset, and the smallest share it belongs to."""
        draws, rows = np.nonzero(self.smallest < len(self.shares))
        return pd.DataFrame(
            {
                "path": np.asarray(paths, dtype=object)[rows],
                "subset": draws,
                "share": np.asarray(self.shares)[self.smallest[draws, rows]],
            }
        )


def draw(paths: Sequence[str], labels: Labels, params: Fractions) -> Subsets:
    """Draw every share of every class, at least one image of each.

    Args:
        paths: of N images, each different.
        labels: (N,) class ids, none negative.
        params: shares, number of draws and seed.
    """
    none = len(params.shares)
    smallest = np.full((params.subsets, len(labels)), none, dtype=np.int64)
    for subset in range(params.subsets):
        order = np.array([_uniform(params.seed, subset, path) for path in paths])
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            rows = rows[np.argsort(order[rows], kind="stable")]
            for number in reversed(range(none)):  # a smaller share overwrites the larger that it lies in
                smallest[subset, rows[: max(1, round(params.shares[number] * len(rows)))]] = number
    return Subsets(tuple(params.shares), smallest)


def fractions(
    train: Labelled, val: Labelled, test: Labelled, subsets: Subsets, n_classes: int, strengths: Sequence[float]
) -> Findings:
    """Accuracy of the probe on each share: the mean over draws, the lowest and the highest.

    Args:
        train: features (N,D) and class ids (N,) of the images that `subsets` was drawn from.
        val: what the strength is chosen on, the same whole split for every share.
        test: what is scored; rows with a negative id are left out.
        subsets: draws over `train`.
        n_classes: C.
        strengths: as of the ordinary probe.
    """
    features, labels = test
    known = labels >= 0
    figures: dict[str, float] = {}
    for number, share in enumerate(subsets.shares):
        accuracies, sizes = [], []
        for subset in range(len(subsets.smallest)):
            rows = subsets.rows(subset, number)
            fitted = probe.fit((train[0][rows], train[1][rows]), val, n_classes, strengths)
            right = fitted.logits(features[known]).argmax(axis=1) == labels[known]
            accuracies.append(float(right.mean()))
            sizes.append(len(rows))
        name = f"top1_{round(100 * share)}"
        figures |= {
            name: float(np.mean(accuracies)),
            f"{name}_min": min(accuracies),
            f"{name}_max": max(accuracies),
            f"images_{round(100 * share)}": max(sizes),
        }
    return Findings({"fractions": figures})


def _uniform(seed: int, subset: int, path: str) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{seed} {subset} {path}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64
