"""PMG's training: jigsaws of 8x8, 4x4 and 2x2 tiles for stages 2, 3 and 4, the whole image for all together."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from discern.arms.pmg import PMG
from discern.data.randomness import uniform
from discern.data.views import Augment
from discern.errors import ParamsError
from discern.models.classifiers import Granular, GranularClassifier, save_classifier
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.models.resnet import ResNetEncoder
from discern.training.objectives import Batch, Objective, Terms

TILES = (8, 4, 2, 1)  # along a side, by turn; the last turn is the concatenation's
WEIGHTS = (1.0, 1.0, 1.0, 2.0)
KEY = 131  # of the random numbers


class PMGObjective(Objective):
    """Cross-entropy of one head a step, in turn (Du et al. 2020, arXiv 2003.03836).

    The authors take four updates on each batch, one a turn; ours takes one on each, so that as many updates see as
    many images. Tiles are shuffled for each image by itself, by the authors once for a batch. As there, every head
    is computed in each step, and sees all granularities in its running statistics; those out of turn count 0.

    Args:
        params: width of the heads and rate of the encoder.
        encoder: f, a ResNet.
        labels: label numbers of all training images (images,).
        classes: number of classes.
        seed: of the shuffling.

    Raises:
        ParamsError: the encoder has no stages.
    """

    labels: Tensor

    def __init__(self, params: PMG, encoder: ImageEncoder, labels: Tensor, classes: int, seed: int) -> None:
        super().__init__()
        if not isinstance(encoder, ResNetEncoder):
            raise ParamsError("base.encoder.kind: pmg needs a network of stages: resnet18 or resnet50")
        self.encoder, self.classes, self.seed = encoder, classes, seed
        dims = [encoder.dim // 4, encoder.dim // 2, encoder.dim]
        self.classifier = GranularClassifier(Granular(kind="pmg", dims=dims, width=params.width, classes=classes))
        self.register_buffer("labels", labels, persistent=False)
        self.passes = 1
        self.encoder_rate = params.encoder_rate

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """One view of every image, its tiles shuffled as the step's turn asks."""
        assert isinstance(self.encoder, ResNetEncoder)
        turn = batch.step % len(TILES)
        x = augment(batch.images, batch.index, batch.epoch, 0)
        tiles = most_tiles(TILES[turn], x.shape[-1])
        order = uniform(batch.index, tiles**2, self.seed, batch.epoch, KEY).argsort(1)
        maps = self.encoder.stages(jigsaw(x, tiles, order.to(x.device, non_blocking=True)))
        labels = self.labels[batch.index.to(self.labels.device, non_blocking=True)]
        losses = [F.cross_entropy(logits, labels) for logits in self.classifier(maps[1:])]
        # Processes that train together need a gradient of every head in each step, if only of zeros.
        loss = sum((0 * other for head, other in enumerate(losses) if head != turn), WEIGHTS[turn] * losses[turn])
        y = full(maps[-1].detach()).mean((2, 3))
        return Terms(loss, {"cross_entropy": losses[turn]}, F.normalize(y))

    def chance(self, batch_size: int) -> float:  # noqa: ARG002  # the classes, not the batch, decide
        """ln(classes), times the mean weight of the turns."""
        return sum(WEIGHTS) / len(WEIGHTS) * math.log(self.classes)

    def leave(self, folder: Path, val_images: npt.NDArray[np.uint8], device: torch.device) -> dict[str, float]:  # noqa: ARG002  # as above
        """Write the heads."""
        save_classifier(folder, self.classifier)
        return {}


def most_tiles(wanted: int, size: int) -> int:
    """The largest number of tiles along a side of `size` pixels, at most as many as wanted, that divides it."""
    return next(tiles for tiles in range(wanted, 0, -1) if size % tiles == 0)


def jigsaw(x: Tensor, tiles: int, order: Tensor) -> Tensor:
    """Images with their tiles in another order.

    Args:
        x: (N, C, S, S).
        tiles: along a side; divides S.
        order: (N, tiles^2): which tile, counted by rows, comes to each place.
    """
    if tiles == 1:
        return x
    n, channels, size, side = len(x), x.shape[1], x.shape[2], x.shape[2] // tiles
    cut = x.view(n, channels, tiles, side, tiles, side).permute(0, 2, 4, 1, 3, 5)  # (N, rows, columns, C, s, s)
    shuffled = cut.flatten(1, 2)[torch.arange(n, device=x.device).unsqueeze(1), order]  # (N, tiles^2, C, s, s)
    placed = shuffled.view(n, tiles, tiles, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    return placed.reshape(n, channels, size, size).contiguous(memory_format=torch.channels_last)
