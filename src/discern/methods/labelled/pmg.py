"""PMG: progressive training on jigsaws of falling granularity (Du et al. 2020, arXiv 2003.03836).

Jigsaws of 8x8, 4x4 and 2x2 tiles are for the stages 2, 3 and 4, the whole image for all together.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.errors import ParamsError
from discern.images.randomness import Stream, uniform
from discern.images.tiles import shuffled
from discern.images.views import Augment
from discern.methods.build import Setup
from discern.methods.parts.labelled import LabelledObjective
from discern.models.classifier import Classifier
from discern.models.convolution import use_products
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.classifier import Granular
from discern.params.labelled import PMG
from discern.training.objective import Batch, Terms

TILES = (8, 4, 2, 1)  # along a side, by turn; the last turn is the concatenation's
STAGES = 3  # the last of the encoder's
WEIGHTS = (1.0, 1.0, 1.0, 2.0)


class GranularClassifier(Classifier):
    """PMG's heads (Du et al. 2020, arXiv 2003.03836): one for each stage, and one for their concatenation.

    As in the authors' code, but for the momentum of batch normalisation after convolutions: theirs is 0.01, with
    which running statistics lag behind in runs of fewer than a thousand steps; ours is torch's 0.1.
    """

    def __init__(self, params: Granular) -> None:
        super().__init__()
        self.params = params
        width, classes = params.width, params.classes
        self.blocks = nn.ModuleList(_convolutions(dim, width) for dim in params.dims)
        self.heads = nn.ModuleList(_head(width, width // 2, classes) for _ in params.dims)
        self.together = _head(width * len(params.dims), width // 2, classes)
        use_products(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits (heads, N, C) of the stages' maps (N, D, h, w), the concatenation's last."""
        # Global: the authors' pooling windows are the maps of a 448 px image.
        pooled = [block(x).amax((2, 3)) for block, x in zip(self.blocks, maps, strict=True)]  # (N, width) each
        logits = [head(y) for head, y in zip(self.heads, pooled, strict=True)]
        return full(torch.stack([*logits, self.together(torch.cat(pooled, dim=1))]))

    def scores(self, encoder: ImageEncoder, x: Tensor) -> dict[str, Tensor]:
        """Logits of the `concatenation`, and the sum of all heads' as `combined`."""
        logits = self(encoder.stages(x)[-len(self.blocks) :])
        return {"concatenation": logits[-1], "combined": logits.sum(0)}


def _convolutions(channels: int, width: int) -> nn.Sequential:
    """A stage's map (N, channels, h, w) to (N, width, h, w)."""
    return nn.Sequential(
        nn.Conv2d(channels, width // 2, 1, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def _head(dim: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(dim), nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.ELU(), nn.Linear(hidden, classes)
    )


class PMGObjective(LabelledObjective):
    """Cross-entropy of one head a step, in turn (Du et al. 2020, arXiv 2003.03836).

    The authors take four updates on each batch, one a turn; ours takes one on each, so that as many updates see as
    many images. Tiles are shuffled for each image by itself, by the authors once for a batch. As there, every head
    is computed in each step, and sees all granularities in its running statistics; those out of turn count 0.

    Args:
        params: width of the heads and rate of the encoder.
        encoder: f, of at least three stages.
        labels: label numbers of all training images (images,).
        classes: number of classes.
        seed: of the shuffling.

    Raises:
        ParamsError: the encoder has fewer stages.
    """

    classifier: GranularClassifier

    def __init__(self, params: PMG, encoder: ImageEncoder, labels: Tensor, classes: int, seed: int) -> None:
        dims = encoder.stage_dims[-STAGES:]
        if len(dims) < STAGES:
            raise ParamsError(
                f"base.encoder: pmg needs feature maps of {STAGES} resolutions and this network gives {len(dims)};"
                " take a ResNet or another convolutional network, or pmg out of methods.compared"
            )
        heads = GranularClassifier(Granular(kind="pmg", dims=dims, width=params.width, classes=classes))
        super().__init__(encoder, heads, labels)
        self.classes, self.seed = classes, seed
        self.encoder_rate = params.encoder_rate

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """One view of every image, its tiles shuffled as the step's turn asks."""
        turn = batch.step % len(TILES)
        x = augment(batch.images, batch.index, batch.epoch, 0)
        tiles = most_tiles(TILES[turn], x.shape[-1])
        order = uniform(batch.index, tiles**2, self.seed, batch.epoch, Stream.TILES).argsort(1)
        maps = self.encoder.stages(shuffled(x, tiles, order.to(x.device, non_blocking=True)))
        labels = self.wanted(batch)
        losses = [F.cross_entropy(logits, labels) for logits in self.classifier(maps[-STAGES:])]
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


def build(params: PMG, setup: Setup) -> PMGObjective:
    """At chance the heads know nothing of the classes: ln(classes), counted twice in every fourth step."""
    assert setup.labels is not None
    return PMGObjective(params, setup.encoder, setup.labels, setup.classes, setup.seed)
