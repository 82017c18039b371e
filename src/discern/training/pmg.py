"""PMG's training: jigsaws of 8x8, 4x4 and 2x2 tiles for stages 2, 3 and 4, the whole image for all together."""

import math

import torch.nn.functional as F
from torch import Tensor

from discern.arms.pmg import PMG
from discern.data.corruptions import RandomJigsaw
from discern.data.randomness import uniform
from discern.data.views import Augment
from discern.errors import ParamsError
from discern.models.classifiers import Granular, GranularClassifier
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.models.resnet import ResNetEncoder
from discern.training.objectives import Batch, LabelledObjective, Terms

TILES = (8, 4, 2, 1)  # along a side, by turn; the last turn is the concatenation's
WEIGHTS = (1.0, 1.0, 1.0, 2.0)
KEY = 131  # of the random numbers


class PMGObjective(LabelledObjective):
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

    classifier: GranularClassifier

    def __init__(self, params: PMG, encoder: ImageEncoder, labels: Tensor, classes: int, seed: int) -> None:
        if not isinstance(encoder, ResNetEncoder):
            raise ParamsError("base.encoder.kind: pmg needs a network of stages: resnet18 or resnet50")
        dims = [encoder.dim // 4, encoder.dim // 2, encoder.dim]
        heads = GranularClassifier(Granular(kind="pmg", dims=dims, width=params.width, classes=classes))
        super().__init__(encoder, heads, labels)
        self.classes, self.seed = classes, seed
        self.encoder_rate = params.encoder_rate

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """One view of every image, its tiles shuffled as the step's turn asks."""
        assert isinstance(self.encoder, ResNetEncoder)
        turn = batch.step % len(TILES)
        x = augment(batch.images, batch.index, batch.epoch, 0)
        tiles = most_tiles(TILES[turn], x.shape[-1])
        order = uniform(batch.index, tiles**2, self.seed, batch.epoch, KEY).argsort(1)
        maps = self.encoder.stages(jigsaw(x, tiles, order.to(x.device, non_blocking=True)))
        labels = self.wanted(batch)
        losses = [F.cross_entropy(logits, labels) for logits in self.classifier(maps[1:])]
        # Processes that train together need a gradient of every head in each step, if only of zeros.
        loss = sum((0 * other for head, other in enumerate(losses) if head != turn), WEIGHTS[turn] * losses[turn])
        y = full(maps[-1].detach()).mean((2, 3))
        return Terms(loss, {"cross_entropy": losses[turn]}, F.normalize(y))

    def chance(self, batch_size: int) -> float:  # noqa: ARG002  # the classes, not the batch, decide
        """ln(classes), times the mean weight of the turns."""
        return sum(WEIGHTS) / len(WEIGHTS) * math.log(self.classes)


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
    return RandomJigsaw(tiles).apply(x, order)
