"""What every loss between two views offers."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from discern.models.encoder import ImageEncoder
from discern.models.weights import load_module, save_module


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


def save_heads(folder: Path, method: JointEmbedding) -> None:
    """Write all of a method but the encoder (projector, queue, key encoder) as ssl.safetensors."""
    encoder, method.encoder = method.encoder, nn.Identity()  # type: ignore[assignment]  # put back below
    try:
        save_module(folder, "ssl", method, {"method": type(method).__name__})
    finally:
        method.encoder = encoder


def load_heads(folder: Path, method: JointEmbedding) -> None:
    """Fill all of a method but the encoder, as `save_heads` left it.

    Raises:
        ModelError: the file is missing, damaged or of another method.
    """
    encoder, method.encoder = method.encoder, nn.Identity()  # type: ignore[assignment]  # it has a file of its own
    try:
        load_module(folder, "ssl", method)
    finally:
        method.encoder = encoder
