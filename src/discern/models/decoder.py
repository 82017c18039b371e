"""The decoder d: pooled features back to an image."""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.models.precision import full
from discern.params.synthesis import Decoder


class ResidualUp(nn.Module):
    """Twice the resolution: nearest upsampling, two convolutions and a 1x1 shortcut."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, 2H, 2W)."""
        shortcut = F.interpolate(self.shortcut(x), scale_factor=2.0, mode="nearest")
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ImageDecoder(nn.Module):
    """Linear to 4x4, residual upsampling, 3x3 convolution to three channels without an activation.

    The architecture of the method's early prototype, with its two linear layers (nothing between them) as one.

    Args:
        params: width at 4x4 and output resolution.
        dim: D, the number of pooled features.
    """

    def __init__(self, params: Decoder, dim: int) -> None:
        super().__init__()
        self.resolution = params.resolution
        doublings = int(math.log2(params.resolution // 4))
        channels = [max(16, params.width // 2**i) for i in range(doublings + 1)]
        self.linear = nn.Linear(dim, channels[0] * 16)
        self.blocks = nn.Sequential(*(ResidualUp(a, b) for a, b in pairwise(channels)))
        self.out = nn.Conv2d(channels[-1], 3, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        """Pooled features (N, D) to normalised images (N, 3, R, R), in full precision."""
        x = self.linear(y).view(len(y), -1, 4, 4).contiguous(memory_format=torch.channels_last)
        out: Tensor = self.out(self.blocks(x))
        return full(out)


def build_decoder(params: Decoder, dim: int, seed: int) -> ImageDecoder:
    """A freshly initialised decoder for features of width `dim`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageDecoder(params, dim).to(memory_format=torch.channels_last)
