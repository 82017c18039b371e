"""Momentum encoders: what gives keys, targets and teachers' answers."""

import copy
from typing import Self

import torch
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from discern.models.precision import full


class Follower(nn.Module):
    """A copy of a module that follows it by a momentum, and never sees a batch's own statistics.

    Batch normalisation over the images of one batch would tell a query which key is of its batch: MoCo shuffles
    the images among its GPUs against that. Here the copy always normalises by running statistics, which follow
    the module's as its weights do (EMAN, Cai et al. 2021, arXiv 2101.08482), so that one process is enough.

    Args:
        module: what to follow; it starts as its copy.
        momentum: share of the copy that is kept at each step.
    """

    def __init__(self, module: nn.Module, momentum: float) -> None:
        super().__init__()
        self.module, self.momentum = copy.deepcopy(module).eval(), momentum
        deactivate_requires_grad(self.module)

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002  # whatever is asked for
        """It stays in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """What the copy makes of x, without gradient, in full precision."""
        return full(self.module(x))

    @torch.no_grad()
    def follow(self, module: nn.Module) -> None:
        """Move towards the module; called once after every optimiser step."""
        update_momentum(module, self.module, m=self.momentum)
        for own, theirs in zip(self.module.modules(), module.modules(), strict=True):
            if isinstance(own, _BatchNorm) and isinstance(theirs, _BatchNorm) and theirs.running_mean is not None:
                assert own.running_mean is not None
                assert own.running_var is not None
                assert theirs.running_var is not None
                assert theirs.num_batches_tracked is not None
                # Statistics begin with no meaning, unlike weights: the first ones count as much as all before.
                weight = (1 / theirs.num_batches_tracked.clamp(min=1)).clamp(min=1 - self.momentum)
                weight = weight.to(own.running_mean.dtype)
                own.running_mean.lerp_(theirs.running_mean, weight)
                own.running_var.lerp_(theirs.running_var, weight)
