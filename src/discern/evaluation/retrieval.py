"""Retrieval within one split, leaving each query out: rank-1, rank-5 and average precision."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from discern.embedding.features import FloatArray, blocks, unit_rows


@dataclass(frozen=True)
class Retrieval:
    """Outcome of every query; NaN where the query is excluded.

    A query whose class no other image has cannot be answered: it is excluded from all three figures (and
    stays in the gallery of the others).

    Attributes:
        rank1: (N,) 1 where the nearest other image has the query's class, else 0.
        rank5: (N,) 1 where any of the five nearest has.
        ap: (N,) average precision over the full ranking of the other N-1 images: the mean, over the R other
            images of the class, of the precision at each one's rank. Its mean over the queries is the mAP.
        excluded: number of excluded queries.
    """

    rank1: npt.NDArray[np.float64]
    rank5: npt.NDArray[np.float64]
    ap: npt.NDArray[np.float64]
    excluded: int


def leave_one_out(
    features: FloatArray, labels: npt.NDArray[np.int64], device: torch.device | None = None
) -> Retrieval:
    """Rank all other images by cosine similarity, for every image; equal similarities by row number.

    Args:
        features: (N,D).
        labels: (N,) class ids, none negative: an unlabelled image in the ranking would be neither right nor
            wrong, so callers leave them out.
        device: where to compute; the CPU by default. Memory is O(block x N).
    """
    points = unit_rows(features, device)
    classes = torch.as_tensor(labels, device=device)
    outcomes = torch.empty(3, len(points), dtype=torch.float64)
    rank = torch.arange(1, len(points), dtype=torch.float64, device=device)  # (N-1,)
    for block in blocks(len(points), len(points)):
        # (B,N-1): the query itself is similar to -inf, so it comes last and is cut off
        ranking = _similarity(points, block).argsort(dim=1, descending=True, stable=True)[:, :-1]
        relevant = classes[ranking] == classes[block, None]
        hits = relevant.cumsum(dim=1)
        precision_at_hits = (hits / rank * relevant).sum(dim=1)
        outcomes[:, block] = torch.stack(
            (
                relevant[:, :1].any(dim=1),
                relevant[:, :5].any(dim=1),
                precision_at_hits / relevant.sum(dim=1),
            )
        ).cpu()
    _, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    alone = counts[class_of] == 1
    rank1, rank5, ap = np.where(alone, np.nan, outcomes.numpy())
    return Retrieval(rank1, rank5, ap, int(alone.sum()))


def nearest(
    features: FloatArray, k: int, device: torch.device | None = None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows of the `k` most similar other images and their cosine similarities, best first.

    Args:
        features: (N,D).
        k: neighbours; clipped to N-1.
        device: where to compute; the CPU by default.

    Returns:
        (N,k) row numbers and (N,k) similarities.
    """
    points = unit_rows(features, device)
    k = min(k, len(points) - 1)
    similarity = torch.empty(len(points), k)
    rows = torch.empty(len(points), k, dtype=torch.int64)
    for block in blocks(len(points), len(points)):
        best = _similarity(points, block).topk(k, dim=1)
        similarity[block], rows[block] = best.values.cpu(), best.indices.cpu()
    return rows.numpy(), similarity.numpy()


def _similarity(points: torch.Tensor, block: slice) -> torch.Tensor:
    """Cosine similarity (B,N) of a block of rows to all, -inf to themselves."""
    similarity = points[block] @ points.T
    own = torch.arange(block.start, block.stop, device=points.device)
    similarity[own - block.start, own] = -torch.inf
    return similarity
