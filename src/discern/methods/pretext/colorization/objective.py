"""Colourisation: the encoder sees a grey image, and a small decoder names the colours it had.

Zhang et al. (2016, arXiv 1603.08511): colours are classes, so that two possible ones need not be mixed to a grey.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.images.views import UNCOLOURED, Augment, denormalise, normalise
from discern.methods.build import Setup
from discern.methods.pretext.colorization.colour import gamut, lab, lightness, quantise
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.pretext import Colorization
from discern.training.objective import Batch, Objective, Terms

REDUCTION = 4  # of the resolution at which colours are named, as in the paper


class ColourHead(nn.Module):
    """Nearest upsampling and 3x3 convolutions, then one score for each bin at every pixel.

    Args:
        channels: of the encoder's feature map.
        width: of the decoder.
        blocks: convolutions.
        bins: of colours.
    """

    def __init__(self, channels: int, width: int, blocks: int, bins: int) -> None:
        super().__init__()
        sizes = [channels] + [width] * blocks
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(blocks))
        self.out = nn.Conv2d(width, bins, 1)

    def forward(self, x: Tensor, side: int) -> Tensor:
        """A feature map (N, D, H, W) to scores (N, bins, side, side), in full precision."""
        left = len(self.convolutions)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            left -= 1
            size = min(side, 2 * x.shape[2]) if left else side
            x = F.relu(norm(convolution(F.interpolate(x, size=(size, size), mode="nearest"))))
        scores: Tensor = self.out(x)
        return full(scores)


class ColorizationObjective(Objective):
    """Cross-entropy of the colours of one view, whose crop and flip are those of `base`.

    Deviations from the paper: hard targets, one bin for the mean colour of 4x4 pixels; no weights for rare colours
    (their frequencies in the training set would have to be counted first); the encoder is that of `base`, and its
    decoder smaller.

    Args:
        params: the decoder's size.
        encoder: f; it sees grey images in training, and coloured ones when it is used.
    """

    passes = 1
    table: Tensor

    def __init__(self, params: Colorization, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        points, table = gamut()
        self.bins = len(points)
        self.register_buffer("table", table, persistent=False)
        head = ColourHead(encoder.dim, params.width, params.blocks, self.bins)
        self.head = head.to(memory_format=torch.channels_last)

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """One grey view of every image."""
        view = without_colours(augment)(batch.images, batch.index, batch.epoch, 0)
        grey, target = self.question(view)
        features = self.encoder.feature_map(grey)  # (N, D, H', W')
        scores = self.head(features, target.shape[1])
        # As one long list of pixels: the loss of maps adds up in no fixed order on a GPU.
        loss = F.cross_entropy(scores.permute(0, 2, 3, 1).reshape(-1, self.bins), target.flatten())
        return Terms(loss, {"cross_entropy": loss}, F.normalize(full(features.detach()).mean((2, 3))))

    @torch.no_grad()
    def question(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """The grey image and the colours to name.

        Args:
            view: normalised views (N, 3, S, S).

        Returns:
            L in all three channels (N, 3, S, S), normalised as other images are, channels last; and the bins
            (N, S / 4, S / 4).
        """
        rgb = denormalise(full(view))
        grey = normalise((lightness(rgb) / 100).expand(-1, 3, -1, -1))
        small = F.adaptive_avg_pool2d(rgb, view.shape[2] // REDUCTION)
        target = quantise(lab(small)[:, 1:], self.table)
        return grey.to(view.dtype).contiguous(memory_format=torch.channels_last), target

    def chance(self, batch_size: int) -> float:  # noqa: ARG002  # the bins, not the batch, decide
        """ln(bins)."""
        return math.log(self.bins)


def without_colours(augment: Augment) -> Augment:
    """The same crops and flips, with the colours as they are and without blur."""
    return augment.changed(UNCOLOURED)


def build(params: Colorization, setup: Setup) -> ColorizationObjective:
    """At chance every colour that there is, of 261, is as likely: ln(261)."""
    return ColorizationObjective(params, setup.encoder)
