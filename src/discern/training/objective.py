"""What the training loop asks of a method: a step's losses, and how it wants to be trained."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from discern.images.views import Augment
from discern.models.encoder import ImageEncoder


@dataclass(frozen=True)
class Batch:
    """The images of one step, or of a part of it.

    Attributes:
        images: uint8 (N, 3, H, W) on the device.
        index: image numbers (N,), on the CPU: parameters of views are drawn there.
        epoch: decides, with the number, an image's views.
        step: of all `steps`.
        steps: length of the run.
        extra: what `Objective.fetch` loaded, one row for each image.
    """

    images: Tensor
    index: Tensor
    epoch: int
    step: int
    steps: int
    extra: dict[str, Tensor] = field(default_factory=dict)

    def split(self, parts: int) -> "list[Batch]":
        """As many parts of equal size."""
        if parts == 1:
            return [self]
        return [
            replace(
                self,
                images=self.images.chunk(parts)[number],
                index=self.index.chunk(parts)[number],
                extra={name: rows.chunk(parts)[number] for name, rows in self.extra.items()},
            )
            for number in range(parts)
        ]


class Terms(NamedTuple):
    """A step's losses; a tuple, because Fabric looks for tensors inside.

    Attributes:
        loss: the sum that is minimised.
        parts: its unweighted terms by name.
        embedding: normalised embedding (N, d) for the collapse monitor.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    embedding: Tensor


class Objective(nn.Module):
    """One way to train an encoder.

    Attributes:
        encoder: f, what is kept in the end.
        passes: encoder passes per image and step.
        rate: factor of the learning rate.
        encoder_rate: another factor of the encoder's.
        layer_rates: another factor of single parameters of the encoder.
        adam_lr: Adam's rate for what `adam` names.
        resident: False where `fetch` reads from a disk.
        free: True where nothing that is left beside the encoder depends on its features, as a classifier does.
    """

    encoder: ImageEncoder
    passes: int
    rate = 1.0
    encoder_rate = 1.0
    adam_lr = 1e-4
    resident = True
    free = True

    def __init__(self) -> None:
        super().__init__()
        self.layer_rates: dict[nn.Parameter, float] = {}

    @property
    def adam(self) -> nn.Module | None:
        """What Adam trains, at a rate of its own; the optimiser of `base` trains the rest."""
        return None

    def fetch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:  # noqa: ARG002  # most need nothing
        """What else a step on images of these numbers (N,) needs, one row for each; called ahead of the step."""
        return {}

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """The losses of one batch."""
        raise NotImplementedError

    def chance(self, batch_size: int) -> float | None:
        """The loss of knowing nothing, where it is known."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called once after every optimiser step."""

    def kept(self) -> ImageEncoder:
        """The encoder that is left at the end of training."""
        return self.encoder

    def leave(self, folder: Path, val_images: npt.NDArray[np.uint8], device: torch.device) -> dict[str, float]:  # noqa: ARG002  # most leave nothing
        """Write what is kept beside the encoder, at the end of training.

        Args:
            folder: of the encoder.
            val_images: (N, S, S, 3), to measure on; may be empty.
            device: where to compute.

        Returns:
            What was measured, by name.
        """
        return {}
