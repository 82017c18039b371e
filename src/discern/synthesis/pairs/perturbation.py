"""Changing the dimensions of a mask and no others."""

import torch
from torch import Tensor

from discern.params.synthesis import Flatten, Gaussian, Perturbation
from discern.synthesis.criteria.basis import Basis


def perturb(c: Tensor, mask: Tensor, basis: Basis, params: Perturbation, generator: torch.Generator) -> Tensor:
    """Coefficients with the masked ones changed; all others stay bit-identical.

    Args:
        c: coefficients (N, D).
        mask: (D,), or (N, D) for masks of their own; True where a coefficient may change.
        basis: gives the spread and mean of coefficients over the training set, and whether they stay positive.
        params: what takes the masked coefficients' place.
        generator: on the CPU; the randomness of noise and of partners.
    """
    if isinstance(params, Gaussian):
        # The mean over dimensions, not each one's own sigma: low-variance dimensions would hardly move.
        noise = torch.randn(c.shape, generator=generator).to(c.device)
        changed = c + noise * params.scale * basis.sigma.mean()
        if basis.kind == "raw":
            changed = changed.clamp(min=0)  # features come out of a ReLU
    elif isinstance(params, Flatten):
        changed = torch.zeros_like(c) if params.kind == "zero" else basis.centre.expand_as(c)
    else:
        changed = c[partners(len(c), generator).to(c.device)]
    return torch.where(mask, changed, c)


def partners(count: int, generator: torch.Generator) -> Tensor:
    """Another row for every one of `count` rows: a random permutation without fixed points (one long cycle)."""
    order = torch.randperm(count, generator=generator)
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return partner
