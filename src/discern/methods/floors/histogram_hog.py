"""The floor of hand-made features: colour histogram with histogram of oriented gradients, without a weight.

What is learnt has to beat them. They are an encoder, so that they go through the same protocol.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from discern.images.views import LUMA, denormalise, resized
from discern.methods.build import Setup
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.encoder import HistogramHOG
from discern.params.floors import HistogramHOGFloor

ORIENTATIONS = 9
BLOCK = 2  # cells of a block to either side
EPS = 1e-5  # of scikit-image's block normalisation
LARGEST = 0.2  # entry of a block: Lowe's hysteresis


class HistogramHOGEncoder(ImageEncoder):
    """Colours and edges: a joint colour histogram and HOG, each of length 1, side by side.

    The square root makes of Euclidean distances between histograms Hellinger's, which large even areas do not
    dominate.

    Args:
        params: bins for each channel, side that gradients are taken at, pixels of a cell.
    """

    def __init__(self, params: HistogramHOG) -> None:
        super().__init__()
        self.params, self.bins, self.side, self.cell = params, params.bins, params.side, params.pixels_per_cell
        blocks = params.side // params.pixels_per_cell - BLOCK + 1
        self.dim = params.bins**3 + blocks**2 * BLOCK**2 * ORIENTATIONS

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to features (N, bins^3 + blocks^2 36)."""
        images = denormalise(full(x))
        colours = F.normalize(colour_histogram(images, self.bins).sqrt())
        grey = (resized(images, self.side) * images.new_tensor(LUMA).view(3, 1, 1)).sum(1)  # (N, side, side)
        return torch.cat([colours, F.normalize(hog(grey, self.cell))], dim=1)


def colour_histogram(images: Tensor, bins: int) -> Tensor:
    """Shares (N, bins^3) of the pixels in every bin of red, green and blue together.

    Args:
        images: (N, 3, H, W) in [0, 1].
        bins: for each of the three.
    """
    # Of whole levels, so that rounding does not decide between bins.
    codes = (images * 255).round().long() * bins // 256  # (N, 3, H, W)
    code = (codes * codes.new_tensor([bins**2, bins, 1]).view(3, 1, 1)).sum(1).flatten(1)  # (N, H W)
    counts = images.new_zeros(len(images), bins**3)
    return counts.scatter_add_(1, code, torch.ones_like(code, dtype=counts.dtype)) / code.shape[1]


def hog(grey: Tensor, cell: int) -> Tensor:
    """Histograms of oriented gradients (Dalal & Triggs 2005), as scikit-image's `hog` with L2-Hys and 2x2 cells.

    Nine unsigned orientations; a pixel votes with its gradient's length for one of them in its own cell. Gradients
    are central differences, 0 at the border; pixels beyond the last whole cell are left out.

    Args:
        grey: images (N, S, S).
        cell: side of a cell in pixels.

    Returns:
        (N, blocks^2 36) by block's row, block's column, cell's row, cell's column, orientation.
    """
    down, across = torch.zeros_like(grey), torch.zeros_like(grey)
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    across[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    # Opposite gradients are one orientation; turned to the upper half, none is rounded to 180 degrees.
    turned = (down < 0) | ((down == 0) & (across < 0))
    angle = torch.atan2(down.abs(), torch.where(turned, -across, across))  # in [0, pi)
    number = (angle * (ORIENTATIONS / math.pi)).long().clamp(max=ORIENTATIONS - 1)
    votes = F.one_hot(number, ORIENTATIONS) * torch.hypot(down, across).unsqueeze(3)  # (N, S, S, 9)
    cells = F.avg_pool2d(votes.permute(0, 3, 1, 2), cell)  # (N, 9, S / cell, S / cell)
    blocks = cells.unfold(2, BLOCK, 1).unfold(3, BLOCK, 1).permute(0, 2, 3, 4, 5, 1).flatten(3)  # (N, B, B, 36)
    return _unit(_unit(blocks).clamp(max=LARGEST)).flatten(1)


def _unit(blocks: Tensor) -> Tensor:
    """Blocks (..., 36) of length 1; those without edges stay near 0."""
    return blocks / (blocks.square().sum(-1, keepdim=True) + EPS**2).sqrt()


def build(params: HistogramHOGFloor, setup: Setup) -> ImageEncoder:
    """Colour histogram and histogram of oriented gradients; nothing is trained."""
    return build_encoder(params, setup.seed)
