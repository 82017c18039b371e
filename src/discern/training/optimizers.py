"""Optimisers of a run, and the one place where the learning rate meets the batch size."""

import torch

from discern.params.training import Optimizer
from discern.training.objectives import Objective
from discern.training.schedule import cosine_with_warmup


class Optimizers:
    """The encoder's and heads' optimiser, and Adam for the decoder where there is one.

    The learning rate scales linearly with the whole batch (Goyal et al. 2017), here and nowhere else. Weight
    decay, and LARS's scaling, leave biases and normalisation alone.

    Args:
        objective: its parameters are split among the optimisers; on its device already.
        params: kind and rates.
        batch_size: images of one optimiser step, over all processes.
        decoder_lr: Adam's rate for the decoder.

    Attributes:
        all: torch's optimisers.
        lr: rate of the encoder, after scaling and before the schedule.
    """

    def __init__(self, objective: Objective, params: Optimizer, batch_size: int, decoder_lr: float) -> None:
        decoder = {id(p) for p in objective.decoder.parameters()} if objective.decoder is not None else set()
        own = [p for p in objective.parameters() if p.requires_grad and id(p) not in decoder]
        groups = [
            {"params": [p for p in own if p.ndim > 1], "weight_decay": params.weight_decay},
            {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.lr = params.lr * batch_size / 256
        self.warmup = params.warmup
        self.all: list[torch.optim.Optimizer] = [_build(params, groups, self.lr)]
        if objective.decoder is not None:
            self.all.append(torch.optim.Adam(objective.decoder.parameters(), lr=decoder_lr, fused=True))
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


def _build(params: Optimizer, groups: list[dict[str, object]], lr: float) -> torch.optim.Optimizer:
    if params.kind == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=params.momentum, fused=True)
    if params.kind == "adamw":
        return torch.optim.AdamW(groups, lr=lr, fused=True)
    from lightly.utils.lars import LARS

    # lightly's LARS takes parameters without decay for biases and does not scale them; weights are always scaled.
    groups[0]["weight_decay"] = params.weight_decay or 1e-30
    lars: torch.optim.Optimizer = LARS(groups, lr=lr, momentum=params.momentum)
    return lars
