"""Sums and rows over all processes, with their gradient: what a loss or a norm over the whole batch needs."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class _Sum(torch.autograd.Function):
    """Sum over processes. Every process's loss depends on every summand, so gradients are summed as well."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004  # nothing to remember
        result = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(result)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


def several() -> bool:
    """Whether several processes train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def total(x: Tensor) -> Tensor:
    """Sum of x over processes, of x's shape."""
    if not several():
        return x
    result: Tensor = _Sum.apply(x)
    return result


def gather(x: Tensor) -> Tensor:
    """Rows (N, ...) of every process as one tensor (processes * N, ...), in the order of ranks.

    The gradient of a row is the sum of what every process's loss asks of it. A plain `all_gather` gives each
    process only the gradient of its own loss, silently.
    """
    if not several():
        return x
    rank, others = dist.get_rank(), dist.get_world_size() - dist.get_rank() - 1
    before, after = (x.new_zeros(count * len(x), *x.shape[1:]) for count in (rank, others))
    return total(torch.cat([before, x, after]))
