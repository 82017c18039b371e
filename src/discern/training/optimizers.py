"""Optimisers of a run, and the one place where the learning rate meets the batch size."""

from typing import Any

import torch
from torch import nn

from discern.params.base import Optimizer
from discern.training.objective import Objective
from discern.training.schedule import cosine_with_warmup


class Optimizers:
    """The encoder's and heads' optimiser, and Adam for what the objective wants trained by it.

    The learning rate scales linearly with the whole batch (Goyal et al. 2017), here and nowhere else. Weight
    decay, and LARS's scaling, leave biases and normalisation alone.

    Args:
        objective: its parameters are split among the optimisers; on its device already.
        params: kind and rates.
        batch_size: images of one optimiser step, over all processes.

    Attributes:
        all: torch's optimisers.
        lr: rate of the encoder, after scaling and before the schedule.
    """

    def __init__(self, objective: Objective, params: Optimizer, batch_size: int) -> None:
        self.lr = params.lr * objective.rate * batch_size / 256
        self.warmup = params.warmup
        by_adam = objective.adam
        apart = set() if by_adam is None else set(by_adam.parameters())
        own = [p for p in objective.parameters() if p.requires_grad and p not in apart]
        groups = _groups(objective, own, params.weight_decay, self.lr)
        self.all: list[torch.optim.Optimizer] = [_build(params, groups, self.lr)] if groups else []
        if by_adam is not None:
            trained = [p for p in by_adam.parameters() if p.requires_grad]
            self.all.append(torch.optim.Adam(trained, lr=objective.adam_lr, fused=True))
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.all]

    def schedule(self, step: int, steps: int) -> float:
        """Set the rates of a step; returns the encoder's."""
        factor = cosine_with_warmup(step, steps, self.warmup)
        for optimizer, rates in zip(self.all, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        return self.lr * factor

    def step(self) -> None:
        """Move every parameter along its gradient and forget the gradients."""
        for optimizer in self.all:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def _groups(
    objective: Objective, parameters: list[nn.Parameter], weight_decay: float, lr: float
) -> list[dict[str, Any]]:
    """Weights, which decay, then biases and normalisation, at the rates of the encoder's blocks and the rest."""
    encoder = set(objective.encoder.parameters())
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for p in sorted(parameters, key=lambda p: p.ndim <= 1):
        rate = lr * (objective.encoder_rate * objective.layer_rates.get(p, 1.0) if p in encoder else 1.0)
        decay = weight_decay if p.ndim > 1 else 0.0
        group = groups.setdefault((p.ndim > 1, rate), {"params": [], "weight_decay": decay, "lr": rate})
        group["params"].append(p)
    return list(groups.values())


def _build(params: Optimizer, groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    if params.kind == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=params.momentum, fused=True)
    if params.kind == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    from lightly.utils.lars import LARS

    # lightly's LARS takes parameters without decay for biases and does not scale them; weights are always scaled.
    groups = [
        {**g, "weight_decay": params.weight_decay or 1e-30} if g["params"][0].ndim > 1 else g for g in groups
    ]
    lars: torch.optim.Optimizer = LARS(groups, lr=lr, momentum=params.momentum)
    return lars
