"""Behind, under and in front of the bird: textured backgrounds, blurred lights, a branch, leaves, light."""

import numpy as np

from discern.data.plumage.canvas import Canvas
from discern.data.plumage.nuisance import HABITATS, Nuisances
from discern.data.plumage.shapes import Field, coverage, disc, hsv, rod, turn

_LIGHTS = 6


def background(nuisances: Nuisances, size: int) -> Canvas:
    """Canvas of N pictures with their backgrounds: two tones mixed by value noise, and discs of light."""
    values = nuisances.values
    table = np.array(list(HABITATS.values()))[nuisances.habitat]
    hue = table[:, 0] + values["background_hue"][:, 0, 0]
    saturation = np.clip(table[:, 1] * values["background_saturation"][:, 0, 0], 0.0, 1.0)
    value = np.clip(table[:, 2] * values["background_value"][:, 0, 0], 0.0, 1.0)
    near = hsv(hue, saturation, value)
    far = hsv(hue + values["background_tone"][:, 0, 0], 0.8 * saturation, 1.0 - 0.55 * (1.0 - value))
    noise = np.empty((len(hue), size, size))
    for habitat, (_, _, _, rows, columns) in enumerate(HABITATS.values()):
        those = nuisances.habitat == habitat
        noise[those] = value_noise(nuisances.grids[those, 0, :rows, :columns], size)
    rows_down = np.linspace(0.0, 1.0, size)[:, None]
    mix = np.clip(0.65 - 0.6 * rows_down + values["texture"] * 1.6 * (noise - 0.5), 0.0, 1.0)
    rgb = near.T[..., None, None] + (far - near).T[..., None, None] * mix
    canvas = Canvas(rgb)
    x, y = frame(size)
    for light in range(_LIGHTS):
        place = nuisances.grids[:, 1, light, :4, None, None]
        distance = disc(x - 2.4 * (place[:, 0] - 0.5), y - 2.4 * (place[:, 1] - 0.5), 0.08 + 0.22 * place[:, 2])
        canvas.paint(values["bokeh"] * place[:, 3] * coverage(distance, 0.06), 0.5 + 0.5 * far)
    return canvas


def branch(canvas: Canvas, nuisances: Nuisances, x: Field, y: Field, pixel: Field) -> None:
    """The perch, through the origin of (x, y), and the leaves on it."""
    values, grids = nuisances.values, nuisances.grids[:, 2]
    along, across = turn(x, y, values["branch_angle"])
    across = across + 0.05 * np.sin(2.2 * along + 6.0 * grids[:, 0, 0, None, None])
    shade = grids[:, 0, 1]
    wood = hsv(0.07 + 0.03 * shade, 0.35 + 0.1 * shade, 0.42 + 0.2 * grids[:, 0, 2])
    grain = 1.0 - 3.2 * across + 0.08 * np.sin(40.0 * across + 5.0 * np.sin(3.0 * along))
    canvas.paint(coverage(rod(along + 3.0, across, 6.0, 0.10, 0.04), pixel), wood, grain)
    for leaf in range(int(np.ceil(values["leaves"].max()))):
        place = grids[:, 1 + leaf, :6, None, None]
        grown = np.clip(values["leaves"] - leaf, 1e-6, 1.0)  # the last leaf of a picture is a small one
        half = 0.21 * (0.7 + 0.5 * place[:, 1]) * grown
        side = np.where(place[:, 2] < 0.5, -1.0, 1.0)
        u, v = turn(along - 2.6 * (place[:, 0] - 0.5), across, side * (0.5 + 1.4 * place[:, 3]))
        # A lens: the intersection of two discs, one on either side of the midrib.
        radius = half * (1.0 + 0.42**2) / (2.0 * 0.42)
        distance = disc(u - half, np.abs(v) + radius - 0.42 * half, radius)
        hue = values["leaf_hue"][:, 0, 0] + 0.06 * (place[:, 4, 0, 0] - 0.5)
        green = hsv(hue, np.full_like(hue, 0.55), 0.45 + 0.3 * place[:, 5, 0, 0])
        cover = coverage(distance, pixel) * (values["leaves"] > leaf)
        canvas.paint(cover, green, 1.0 + 0.6 * v - 0.25 * (np.abs(v) < 0.012))


def illuminate(rgb: Field, nuisances: Nuisances) -> Field:
    """Brightness, colour cast, dappled shadow and sensor noise on (3, N, S, S) colours."""
    values, size = nuisances.values, rgb.shape[-1]
    dapple = np.clip(1.8 * value_noise(nuisances.grids[:, 3, :4, :4], size) - 0.4, 0.0, 1.0)
    light = values["brightness"] * (1.0 - 0.6 * values["shadow"] * dapple)
    cast = 1.0 + values["warmth"] * np.array([1.0, 0.0, -1.0])[:, None, None, None]
    rgb = rgb * (light * cast)
    return rgb + values["noise"] * nuisances.noise


def value_noise(grid: Field, size: int) -> Field:
    """Smooth interpolation of (N, rows, columns) grids to (N, size, size)."""
    field: Field = _interpolation(grid.shape[1], size) @ grid @ _interpolation(grid.shape[2], size).T
    return field


def frame(size: int) -> tuple[Field, Field]:
    """Coordinates of the pixels' centres, (1, 1, S) to the right and (1, S, 1) downwards, in [-1, 1]."""
    centres: Field = (np.arange(size, dtype=np.float64) + 0.5) * (2.0 / size) - 1.0
    return centres[None, None, :], centres[None, :, None]


def _interpolation(knots: int, size: int) -> Field:
    place = np.linspace(0.0, knots - 1.0, size)
    left = np.minimum(place.astype(np.int64), knots - 2)
    share = place - left
    share = share * share * (3.0 - 2.0 * share)
    weights = np.zeros((size, knots))
    weights[np.arange(size), left] = 1.0 - share
    weights[np.arange(size), left + 1] += share
    return weights
