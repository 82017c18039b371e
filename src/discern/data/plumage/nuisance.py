"""What changes from picture to picture and says nothing about the species."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discern.data.plumage.shapes import Field

# (low, high) at nuisance 0 and at nuisance 1; a picture's value is uniform in the range between the two.
# Lengths: half the picture is 1. Angles in radians, hues in turns.
RANGES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "scale": ((0.76, 0.96), (0.24, 0.60)),
    "x": ((-0.03, 0.03), (-0.50, 0.50)),
    "y": ((-0.03, 0.03), (-0.36, 0.36)),
    "rotation": ((-0.04, 0.04), (-0.45, 0.45)),
    "nod": ((-0.05, 0.05), (-0.40, 0.40)),
    "tail_lift": ((-0.05, 0.05), (-0.35, 0.35)),
    "background_hue": ((0.0, 0.0), (-0.50, 0.50)),
    "background_saturation": ((0.12, 0.20), (0.60, 1.00)),
    "background_value": ((0.62, 0.72), (0.30, 0.95)),
    "background_tone": ((-0.02, 0.02), (-0.35, 0.35)),
    "texture": ((0.10, 0.20), (0.50, 0.95)),
    "bokeh": ((0.05, 0.12), (0.25, 0.60)),
    "branch_angle": ((-0.10, 0.10), (-0.45, 0.45)),
    "leaves": ((0.0, 1.0), (1.0, 5.0)),
    "leaf_hue": ((0.26, 0.30), (0.02, 0.45)),
    "brightness": ((0.96, 1.04), (0.54, 1.36)),
    "warmth": ((-0.02, 0.02), (-0.20, 0.20)),
    "light": ((0.0, 6.283), (0.0, 6.283)),
    "shadow": ((0.0, 0.20), (0.60, 1.50)),
    "noise": ((0.004, 0.010), (0.020, 0.050)),
}
# hue, saturation and value relative to the drawn ones, and the rows and columns of the texture's grid
HABITATS = {
    "meadow": (0.26, 1.2, 1.00, 7, 7),
    "reeds": (0.13, 1.0, 1.10, 2, 20),
    "water": (0.53, 1.1, 1.05, 20, 3),
    "dusk": (0.74, 0.9, 0.85, 3, 4),
    "autumn": (0.06, 1.2, 0.95, 9, 14),
    "mist": (0.60, 0.5, 1.20, 5, 3),
}
GRID = 24


@dataclass(frozen=True)
class Nuisances:
    """Nuisances of N pictures.

    Attributes:
        values: (N, 1, 1) for each key of `RANGES`.
        flip: (N,) 1.0 where the bird looks to the right, -1.0 to the left.
        habitat: (N,) number of the background in the order of `HABITATS`.
        grids: (N, 4, GRID, GRID) uniform values for textures, blurred lights, leaves and shadows.
        noise: (3, N, S, S) standard normal values of the sensor.
    """

    values: dict[str, Field]
    flip: Field
    habitat: NDArray[np.int64]
    grids: Field
    noise: Field


def sample(keys: NDArray[np.int64], size: int, nuisance: float) -> Nuisances:
    """Nuisances of the pictures with these keys; each depends on its own key alone.

    Args:
        keys: (N, K) whole numbers that name each picture.
        size: side of the picture in pixels.
        nuisance: how wide the ranges are, in [0, 1].
    """
    count = len(keys)
    uniform = np.empty((count, len(RANGES) + 2))
    grids = np.empty((count, 4, GRID, GRID))
    noise = np.empty((3, count, size, size))
    for i, key in enumerate(keys):
        generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(key.tolist())))
        generator.random(out=uniform[i])
        generator.random(out=grids[i])
        noise[:, i] = generator.standard_normal((3, size, size))
    values = {}
    for column, (name, (calm, wild)) in enumerate(RANGES.items()):
        low, high = (a + nuisance * (b - a) for a, b in zip(calm, wild, strict=True))
        values[name] = (low + (high - low) * uniform[:, column])[:, None, None]
    # Hues leave the shared palette slowly: a background of its own is what contrastive learning falls for.
    values["background_hue"] *= nuisance
    return Nuisances(
        values=values,
        flip=np.where(uniform[:, -2] < 0.5, -1.0, 1.0),
        habitat=(uniform[:, -1] * len(HABITATS)).astype(np.int64),
        grids=grids,
        noise=noise,
    )
