"""Which images every step sees: shuffled anew each epoch, the same for any number of processes."""

from collections.abc import Callable

import torch
from torch import Tensor

from discern.errors import ParamsError
from discern.images.loading import ImageStore
from discern.images.randomness import Stream, seeded
from discern.training.objective import Batch
from discern.training.schedule import Plan

Fetch = Callable[[Tensor, int], dict[str, Tensor]]
"""(image numbers (N,), epoch) → whatever else an objective wants to have loaded with them."""


class Feed:
    """Batches by step number.

    Args:
        images: the training set.
        plan: batch size and steps.
        seed: of the order.
        fetch: loads what the objective needs beside the images.
        rank: of this process; it gets the rank-th part of every batch.
        size: number of processes.
        accumulate: parts a process's batch is cut into.

    Raises:
        ParamsError: a batch cannot be cut into as many equal parts.
    """

    def __init__(
        self, images: ImageStore, plan: Plan, seed: int, fetch: Fetch, rank: int, size: int, accumulate: int
    ) -> None:
        if plan.batch_size % (size * accumulate):
            raise ParamsError(
                f"params.yaml: base.batch_size = {plan.batch_size} (at most the number of training images) cannot"
                f" be cut into {size} processes x {accumulate} parts (base.accumulate) of equal size"
            )
        self.images, self.plan, self.seed, self.fetch, self.rank, self.size = images, plan, seed, fetch, rank, size
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def epoch(self, step: int) -> int:
        """The epoch that a step belongs to."""
        return step // self.plan.steps_per_epoch

    def rows(self, step: int) -> Tensor:
        """Numbers (B,) of the whole batch's images, over all processes."""
        epoch, position = self.epoch(step), step % self.plan.steps_per_epoch
        if self._order[0] != epoch:
            self._order = (
                epoch,
                torch.randperm(self.plan.images, generator=seeded(self.seed, epoch, Stream.ORDER)),
            )
        return self._order[1][position * self.plan.batch_size : (position + 1) * self.plan.batch_size]

    def __call__(self, step: int) -> Batch:
        """This process's part of a step's batch, on the device."""
        index = self.rows(step).chunk(self.size)[self.rank]
        epoch = self.epoch(step)
        images = self.images.take(index).permute(0, 3, 1, 2)  # (N, 3, H, W), channels last in memory
        return Batch(images, index, epoch, step, self.plan.steps, self.fetch(index, epoch))
