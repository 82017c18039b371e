"""What every loss between two views offers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from discern.arms import Setup, build
from discern.errors import DataError
from discern.models.encoder import ImageEncoder


@dataclass(frozen=True)
class Contrast:
    """One forward pass over two views.

    Attributes:
        loss: L_C, a scalar.
        features: y (N, D) of the first view, in the graph.
        embedding: the first view's normalised embedding (N, dim), for the collapse monitor.
    """

    loss: Tensor
    features: Tensor
    embedding: Tensor


class JointEmbedding(nn.Module):
    """An encoder, its heads and a loss between two sides.

    A side is compared with its *target*: another view's features (SimCLR) or a momentum encoder's keys (MoCo).
    The three parts are apart so that scoring can differentiate `contrast` by the features alone, and pair
    training can use a synthesized image as the target of a real view.

    Attributes:
        encoder: f.
        passes: encoder passes per image and step.
        rate: factor of the learning rate.
    """

    passes = 2
    rate = 1.0

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def target(self, x: Tensor) -> Tensor:
        """What images x (N, 3, H, W) are to the other side's loss."""
        raise NotImplementedError

    def contrast(self, y: Tensor, target: Tensor) -> Tensor:
        """The loss between features y (N, D) and the target of the other side."""
        raise NotImplementedError

    def forward(self, x1: Tensor, x2: Tensor) -> Contrast:
        """L_C of two views, each (N, 3, H, W)."""
        raise NotImplementedError

    def chance(self, batch_size: int) -> float:
        """The loss of an encoder that cannot tell the batch's images apart."""
        raise NotImplementedError

    @torch.no_grad()
    def after_step(self) -> None:
        """Called once after every optimiser step."""


def build_method(params: Any, encoder: ImageEncoder, images: int, seed: int) -> JointEmbedding:
    """The two-view loss that `params` describes, around `encoder`.

    Args:
        params: its kind chooses the method.
        encoder: f; trained in place.
        images: size of the training set, which bounds a queue.
        seed: of the heads' weights.

    Raises:
        DataError: fewer than two images, so that there is nothing to contrast with.
    """
    if images < 2:
        raise DataError(f"a contrastive loss needs at least 2 training images, found {images}")
    method = build(params, Setup(encoder, images, seed))
    assert isinstance(method, JointEmbedding), "the parameters admit only the role `loss`"
    return method
