"""How many steps a budget of encoder passes buys, and how rates change along them."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The length of one training run.

    Attributes:
        images: size of the training set.
        batch_size: images a step; at most `images`.
        steps: optimiser steps.
        passes: encoder passes per image and step of the objective.
    """

    images: int
    batch_size: int
    steps: int
    passes: int

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training set; the rest waits for the next epoch's order."""
        return max(1, self.images // self.batch_size)

    def passes_per_image(self, step: int) -> float:
        """Encoder passes spent per training image after `step` steps."""
        return step * self.batch_size * self.passes / self.images


def plan(budget: int, images: int, batch_size: int, passes: int) -> Plan:
    """Steps that spend `budget` encoder passes per image at `passes` a step; at least one."""
    batch_size = min(batch_size, images)
    steps = max(1, round(budget * images / (passes * batch_size)))
    return Plan(images, batch_size, steps, passes)


def cosine_with_warmup(step: int, steps: int, warmup: float) -> float:
    """Factor of the learning rate: a linear rise over the first `warmup` share, then a cosine to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def linear_rise(step: int, steps: int, warmup: float) -> float:
    """Factor of a loss weight: from 0 to 1 over the first `warmup` share of the steps, then 1."""
    rise = round(warmup * steps)
    return min(1.0, step / rise) if rise else 1.0
