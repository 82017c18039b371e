"""Known images that a photograph is compared with: which are nearest, and which class they vote for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import Tensor

from discern.embedding.features import FloatArray, blocks, unit_rows
from discern.errors import DataError

Texts = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Neighbour:
    """One image of a gallery like the query.

    Attributes:
        name: path of the image, or its number.
        label: None where it has none.
        similarity: cosine of the two features.
    """

    name: str
    label: str | None
    similarity: float


@dataclass(frozen=True)
class Gallery:
    """Features of known images.

    Attributes:
        features: (N, D) rows of length 1, on the CPU.
        names: (N,) of the images.
        labels: (N,) class names; empty texts where there is none.
    """

    features: Tensor
    names: Texts
    labels: Texts

    @classmethod
    def of(cls, features: FloatArray, names: list[str], labels: list[str]) -> "Gallery":
        """A gallery of features (N, D), not normalised, with a name and a label for each."""
        return cls(unit_rows(features), np.array(names, np.str_), np.array(labels, np.str_))

    @classmethod
    def load(cls, file: Path) -> "Gallery":
        """Read what `save` wrote; no object arrays, so no pickle."""
        with np.load(file, allow_pickle=False) as arrays:
            return cls(unit_rows(arrays["features"]), arrays["paths"], arrays["labels"])

    def save(self, file: Path) -> None:
        """Write features, names and labels as one .npz."""
        np.savez(file, features=self.features.numpy(), paths=self.names, labels=self.labels)

    @property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Numbers of the images that have a label."""
        return np.flatnonzero(self.labels != "")

    def nearest(self, features: FloatArray, count: int) -> list[list[Neighbour]]:
        """The most similar images of each feature (M, D), the nearest first; at most `count`."""
        points, found = unit_rows(features), []
        for block in blocks(len(points), len(self.names)):
            similarity, rows = (points[block] @ self.features.T).topk(min(count, len(self.names)), dim=1)
            for cosines, numbers in zip(similarity.tolist(), rows.tolist(), strict=True):
                found.append([self._neighbour(*pair) for pair in zip(numbers, cosines, strict=True)])
        return found

    def classify(self, features: FloatArray, k: int, temperature: float) -> list[tuple[str, float]]:
        """Class of each feature (M, D) by its `k` nearest labelled images, each weighing exp(cosine / T).

        Returns:
            The class with the largest share of the votes, and that share.

        Raises:
            DataError: no image has a label.
        """
        known, points, answers = self.labelled, unit_rows(features), []
        if not len(known):
            raise DataError("the gallery has no labels to vote with")
        labels, gallery = self.labels[known], self.features[known]
        for block in blocks(len(points), len(known)):
            best, rows = (points[block] @ gallery.T).topk(min(k, len(known)), dim=1)
            # Relative to the nearest: the same shares, and exp cannot overflow at small temperatures.
            shares = ((best - best[:, :1]) / temperature).softmax(dim=1)
            answers += [_winner(labels[r], s) for r, s in zip(rows.numpy(), shares.tolist(), strict=True)]
        return answers

    def _neighbour(self, row: int, cosine: float) -> Neighbour:
        return Neighbour(str(self.names[row]), str(self.labels[row]) or None, cosine)


def _winner(labels: Texts, shares: list[float]) -> tuple[str, float]:
    """The label with the most of the shares, the first by name where they are equal."""
    votes: dict[str, float] = {}
    for label, share in zip(labels.tolist(), shares, strict=True):
        votes[label] = votes.get(label, 0.0) + share
    winner = max(sorted(votes), key=lambda label: votes[label])
    return winner, votes[winner]
