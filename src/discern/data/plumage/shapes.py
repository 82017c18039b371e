"""Signed distances of the few shapes that birds and scenery are made of, and their antialiased coverage.

Every function is batched: coordinates are (N, S, S), measures of a shape are (N, 1, 1) or plain numbers.
Distances are negative inside.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Field: TypeAlias = NDArray[np.float64]
Measure: TypeAlias = Field | float


def coverage(distance: Field, pixel: Measure) -> Field:
    """Share of each pixel that lies inside a shape: a ramp one pixel wide.

    Args:
        distance: signed distance at the pixel's centre.
        pixel: width of a pixel in the same unit.
    """
    return np.clip(0.5 - distance / pixel, 0.0, 1.0)


def ellipse(x: Field, y: Field, width: Measure, height: Measure) -> Field:
    """Distance to an axis-aligned ellipse around the origin with these half-axes, to first order."""
    u, v = x / width, y / height
    level = np.sqrt(u * u + v * v) + 1e-9
    u /= width
    v /= height
    return level * (level - 1.0) / (np.sqrt(u * u + v * v) + 1e-9)


def disc(x: Field, y: Field, radius: Measure) -> Field:
    """Distance to a disc around the origin."""
    return np.sqrt(x * x + y * y) - radius


def rod(x: Field, y: Field, length: Measure, start: Measure, end: Measure) -> Field:
    """Distance to a tapered rod from the origin along +x, of half-width `start` there, `end` at the tip."""
    along = np.clip(x / length, 0.0, 1.0)
    return disc(x - along * length, y, start + (end - start) * along)


def turn(x: Field, y: Field, angle: Measure) -> tuple[Field, Field]:
    """Coordinates in axes turned by `angle` (radians, from +x towards +y)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def blend(first: Field, second: Field, softness: float) -> Field:
    """Smooth union of two shapes (polynomial smooth minimum)."""
    share = np.clip(0.5 + 0.5 * (second - first) / softness, 0.0, 1.0)
    return second + (first - second) * share - softness * share * (1.0 - share)


def hsv(hue: Field, saturation: Field, value: Field) -> Field:
    """RGB in [0, 1] of hue (in turns), saturation and value: (N,) each, to (N, 3)."""
    sector = (np.array([5.0, 3.0, 1.0]) + 6.0 * hue[:, None]) % 6.0
    chroma = np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    rgb: Field = value[:, None] * (1.0 - saturation[:, None] * chroma)
    return rgb
