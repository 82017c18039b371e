"""Colours apart from lightness: CIE Lab, and the cells of a grid over its plane of colours that exist.

The conversion from sRGB is that of scikit-image and OpenCV (white point D65); the grid that of Zhang et al. (2016,
arXiv 1603.08511), with a step of 10. 261 of its points are the nearest to some 8-bit RGB colour; the paper counts
313, which takes in points that are only neighbours of such colours, for its soft targets.
"""

from functools import cache

import torch
from torch import Tensor

XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
WHITE = (0.95047, 1.0, 1.08883)
STEP = 10  # of the grid, in Lab's units, of which one is about the smallest difference that is seen
REACH = 11  # grid points from 0 to the edge in each direction, as in the paper; the gamut ends within
POINTS = 2 * REACH + 1


def lightness(rgb: Tensor) -> Tensor:
    """L (N, 1, H, W), from 0 to 100, of sRGB (N, 3, H, W) in [0, 1]."""
    return 116 * _curve(_weighted(_linear(rgb), XYZ[1])).unsqueeze(1) - 16


def lab(rgb: Tensor) -> Tensor:
    """CIE Lab (N, 3, H, W) of sRGB (N, 3, H, W) in [0, 1]: L from 0 to 100, a and b within 110 of 0."""
    linear = _linear(rgb)
    x, y, z = (_curve(_weighted(linear, row) / white) for row, white in zip(XYZ, WHITE, strict=True))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def quantise(ab: Tensor, table: Tensor) -> Tensor:
    """Numbers (N, H, W) of the bins that are nearest to colours ab (N, 2, H, W), by the `table` of `gamut`."""
    a, b = (ab / STEP).round().clamp(-REACH, REACH).long().unbind(1)
    return table[(a + REACH) * POINTS + b + REACH]


@cache
def gamut() -> tuple[Tensor, Tensor]:
    """The grid's points that are nearest to some 8-bit RGB colour, and which of them is nearest to every point.

    Only the six faces of the RGB cube are tried: a colour inside keeps its ab as its L grows, until it comes to a
    face. All 16,777,216 colours give the same points, in a minute.

    Returns:
        Points' ab (bins, 2), and the numbers of the nearest ones (23 * 23,) for the grid's points by rows. Points
        that no colour has are there because a mean of colours may just miss those that exist.
    """
    level = torch.arange(256) / 255
    one, other = torch.cartesian_prod(level, level).T  # (65536,)
    edge = torch.ones_like(one)
    faces = [(value * edge, one, other) for value in (0, 1)]
    rgb = torch.stack([torch.stack(face).roll(turn, 0) for face in faces for turn in range(3)])  # (6, 3, 65536)
    ab = lab(rgb.unsqueeze(3))[:, 1:]
    every = torch.cartesian_prod(*[torch.arange(-REACH, REACH + 1) * STEP] * 2)  # (529, 2)
    held = torch.bincount(quantise(ab, torch.arange(len(every))).flatten()).nonzero()[:, 0]
    points = every[held].float()
    return points, torch.cdist(every.float(), points).argmin(1)


def _linear(rgb: Tensor) -> Tensor:
    """Linear light of sRGB (N, 3, H, W)."""
    return torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)


def _weighted(linear: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Weighted sum (N, H, W) of channels; with numbers, not a matrix, which autocast would round."""
    red, green, blue = linear.unbind(1)
    return weights[0] * red + weights[1] * green + weights[2] * blue


def _curve(t: Tensor) -> Tensor:
    """Lab's cube root, with a straight line near black."""
    return torch.where(t > 0.008856, t.clamp(min=0.008856) ** (1 / 3), 7.787 * t + 16 / 116)
