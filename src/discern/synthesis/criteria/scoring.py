"""Which dimensions do not discriminate: low variance, or low Grad-CAM importance under the SSL loss.

Grad-CAM weighs channel k of the feature map F by the mean gradient of the score over positions; here the score
is the contrastive loss. When the loss sees F only through global average pooling, dL/dF_k(u,v) = (1/Z) dL/dy_k
with Z positions, and the importance mean_uv w_k F_k(u,v) becomes (1/Z) y_k dL/dy_k: gradient times activation
on the pooled vector, one `autograd.grad` and no hooks.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from discern.methods.parts.joint_embedding import JointEmbedding
from discern.params.synthesis import ScoreFeatures
from discern.synthesis.criteria.basis import Basis


def loss_gradients(method: JointEmbedding, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Features y (N, D) of the first view and dL_C/dy (N, D) of the whole batch's loss.

    The loss is that of the batch, not of one row: through the other rows' denominators the two differ
    (cosine .82-.91 between their channel weights).

    Args:
        method: in eval mode.
        x1: first views (N, 3, H, W).
        x2: second views (N, 3, H, W).
    """
    with torch.no_grad():
        y, target = method.encoder(x1), method.target(x2)
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        loss = method.contrast(y, target.detach())
    (gradient,) = torch.autograd.grad(loss, y)
    return y.detach(), gradient


SIGNS: dict[str, Callable[[Tensor], Tensor]] = {
    "absolute": torch.abs,
    "positive": torch.relu,
    "negative": lambda importance: torch.relu(-importance),
}


def importance(y: Tensor, gradient: Tensor, basis: Basis, positions: int, sign: str) -> Tensor:
    """Grad-CAM importance (N, D) of every coefficient for every image.

    In the raw basis this is exactly (1/Z) y dL/dy. In another the feature is its coefficients' sum, and every
    coefficient is weighed by the gradient along its direction.

    Args:
        y: pooled features (N, D).
        gradient: dL/dy (N, D).
        basis: the basis of the dimensions.
        positions: Z, the feature map's height times width.
        sign: absolute, positive or negative.
    """
    return SIGNS[sign](basis.coefficients(y) * basis.gradients(gradient, y) / positions)


def lowest(score: Tensor, share: float) -> Tensor:
    """Mask of the `share` of dimensions that score lowest, along the last axis; ties by position."""
    count = round(share * score.shape[-1])
    order = score.argsort(dim=-1, stable=True)[..., :count]
    return torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order, True)


def select(variance: Tensor, importances: Tensor, params: ScoreFeatures) -> Tensor:
    """The mask of non-discriminative dimensions.

    Args:
        variance: sigma^2 (D,).
        importances: mean importance (D,), or of every image (N, D) for masks of their own.
        params: shares and how the two criteria combine.

    Returns:
        True where a dimension may be perturbed; shaped like `importances`.
    """
    low_variance = lowest(variance, params.low_variance).expand_as(importances)
    low_importance = lowest(importances, params.low_importance)
    return {
        "union": low_variance | low_importance,
        "intersection": low_variance & low_importance,
        "variance": low_variance.clone(),
        "gradcam": low_importance,
    }[params.combine]


def control_mask(mask: Tensor, dims: str, generator: torch.Generator) -> Tensor:
    """The mask of a control: as many dimensions at random, or the complement (the discriminative ones)."""
    if dims == "discriminative":
        return ~mask
    scores = torch.rand(mask.shape, generator=generator)
    rank = scores.argsort(-1).argsort(-1)
    return rank < mask.sum(-1, keepdim=True)
