"""Rotation: an image is turned by 0, 90, 180 or 270 degrees, and a linear head says by how much.

Gidaris et al. (2018, arXiv 1803.07728).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.images.randomness import Stream, uniform
from discern.images.views import Augment
from discern.methods.build import Setup
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.pretext import Rotation
from discern.training.objective import Batch, Objective, Terms

TURNS = 4


class RotationObjective(Objective):
    """Cross-entropy of the turn of one view.

    Deviations from the paper: one turn of every image and epoch is drawn instead of all four in one batch, so that
    a step costs one encoder pass per image; the views are those of `base`.

    Args:
        encoder: f.
    """

    passes = 1

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.dim, TURNS)

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """One turned view of every image."""
        turns = draw_turns(batch.index, augment.seed, batch.epoch).to(batch.images.device, non_blocking=True)
        y = self.encoder(turned(augment(batch.images, batch.index, batch.epoch, 0), turns))
        loss = F.cross_entropy(full(self.head(y)), turns)
        return Terms(loss, {"cross_entropy": loss}, F.normalize(y.detach()))

    def chance(self, batch_size: int) -> float:  # noqa: ARG002  # the turns, not the batch, decide
        """ln(4)."""
        return math.log(TURNS)


def draw_turns(index: Tensor, seed: int, epoch: int) -> Tensor:
    """Quarter turns (N,) of the images of these numbers (N,), from 0 to 3."""
    return (uniform(index, 1, seed, epoch, Stream.TURN)[:, 0] * TURNS).long()


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """Square images (N, 3, S, S), each turned counterclockwise by its number (N,) of quarter turns, channels last.

    An odd turn exchanges rows and columns; the rest are mirrorings of either.
    """
    turns = turns.view(-1, 1, 1, 1)
    x = torch.where(turns % 2 == 1, x.mT, x)
    x = torch.where((turns == 1) | (turns == 2), x.flip(2), x)
    x = torch.where(turns >= 2, x.flip(3), x)
    return x.contiguous(memory_format=torch.channels_last)


def build(params: Rotation, setup: Setup) -> RotationObjective:  # noqa: ARG001  # there is nothing to choose
    """At chance the four turns are as likely: ln(4)."""
    return RotationObjective(setup.encoder)
