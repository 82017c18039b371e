"""What can be said of features without any label."""

from dataclasses import dataclass

import numpy as np
import torch

from discern.embedding.features import FloatArray, blocks, unit_rows


@dataclass(frozen=True)
class LabelFree:
    """Figures that need no label; none of them is an accuracy.

    Attributes:
        alignment: mean squared distance between the L2-normalised features of two augmented views of an
            image, 0 (invariant) to 4 (Wang & Isola 2020, arXiv 2005.10242, alpha = 2).
        uniformity: log of the mean over image pairs of exp(-2 d²), d the distance of their L2-normalised
            features; 0 is collapse, -4 unreachably uniform (same source, t = 2).
        view_rank1: share of images whose first view is nearer to its own second view than to any other's.
        effective_rank: exp of the entropy of the features' normalised singular values, 1 to D (RankMe,
            Garrido et al. 2023, arXiv 2210.02885; not centred, as there).
        std: mean over dimensions of the standard deviation of the L2-normalised features, times sqrt(D);
            0 is collapse, 1 the value of directions spread evenly.
    """

    alignment: float
    uniformity: float
    view_rank1: float
    effective_rank: float
    std: float


def label_free(
    features: FloatArray, first: FloatArray, second: FloatArray, device: torch.device | None = None
) -> LabelFree:
    """All label-free figures of one encoder.

    Args:
        features: (N,D) of the images as they are; uniformity, effective_rank and std are theirs. N >= 2.
        first: (N,D) of one augmented view of each image.
        second: (N,D) of another.
        device: where to compute; the CPU by default.
    """
    points = unit_rows(features, device)
    one, two = unit_rows(first, device), unit_rows(second, device)
    return LabelFree(
        alignment=(one - two).square().sum(dim=1).double().mean().item(),
        uniformity=_uniformity(points),
        view_rank1=_matched(one, two),
        effective_rank=_effective_rank(features),
        std=points.std(dim=0).mean().item() * points.shape[1] ** 0.5,
    )


def _uniformity(points: torch.Tensor) -> float:
    total = 0.0
    for block in blocks(len(points), len(points)):
        # d² = 2 - 2 cos between unit rows
        potential = (4 * (points[block] @ points.T) - 4).double().exp()
        total += potential.sum().item() - potential.diagonal(block.start).sum().item()  # without i = j
    return float(np.log(total / (len(points) * (len(points) - 1))))


def _matched(queries: torch.Tensor, gallery: torch.Tensor) -> float:
    own = torch.arange(len(queries), device=queries.device)
    hits = [
        ((queries[block] @ gallery.T).argmax(dim=1) == own[block]).sum().item()
        for block in blocks(len(queries), len(gallery))
    ]
    return sum(hits) / len(queries)


def _effective_rank(features: FloatArray) -> float:
    X = np.asarray(features, dtype=np.float64)
    # Singular values through the smaller Gram matrix: exact where they matter, and cheap for many images.
    gram = X.T @ X if X.shape[0] >= X.shape[1] else X @ X.T
    sigma = np.sqrt(np.clip(np.linalg.eigvalsh(gram), 0, None))
    if not sigma.any():
        return 0.0
    p = sigma / sigma.sum()
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))
