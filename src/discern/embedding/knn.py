"""Weighted k-nearest-neighbour vote by cosine similarity (Wu et al. 2018, arXiv 1805.01978)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from discern.embedding.features import FloatArray, blocks, unit_rows


@dataclass(frozen=True)
class Vote:
    """What the neighbours say.

    Attributes:
        predictions: (M,) class ids; the lowest one where votes are equal.
        k: neighbours that voted.
        note: why `k` is not the one asked for, or None.
    """

    predictions: npt.NDArray[np.int64]
    k: int
    note: str | None


def vote(
    train: FloatArray,
    labels: npt.NDArray[np.int64],
    queries: FloatArray,
    k: int,
    temperature: float,
    device: torch.device | None = None,
) -> Vote:
    """Class of every query by its `k` nearest training features, each weighing exp(similarity / temperature).

    Args:
        train: (N,D) features of labelled images.
        labels: (N,) class ids, none negative.
        queries: (M,D) features.
        k: neighbours; clipped to N, with a note.
        temperature: of the weights.
        device: where to compute; the CPU by default.
    """
    note = f"kNN: k = {k} is clipped to the {len(train)} labelled training images" if k > len(train) else None
    k = min(k, len(train))
    gallery = unit_rows(train, device)
    targets = F.one_hot(torch.tensor(labels, device=device)).float()  # (N,C)
    points = unit_rows(queries, device)
    predictions = torch.empty(len(points), dtype=torch.int64)
    for block in blocks(len(points), len(gallery)):
        similarity, neighbours = (points[block] @ gallery.T).topk(k, dim=1)  # (B,k), best first
        # Relative to the best neighbour: the same vote, and exp cannot overflow at small temperatures.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        predictions[block] = torch.einsum("bk,bkc->bc", weights, targets[neighbours]).argmax(dim=1).cpu()
    return Vote(predictions.numpy(), k, note)
