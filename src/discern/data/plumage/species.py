"""Which birds there are: a genus fixes body hue and shape, a species the small parts.

The catalogue does not depend on the data set's seed: two seeds are two samples of the same population.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

from discern.errors import ParamsError

Colour = tuple[float, float, float]

PER_GENUS = 5

# Crowns differ in lightness and saturation as well as hue, so that colour jitter leaves them apart.
_CROWNS: dict[str, tuple[str, Colour]] = {
    "albiceps": ("white", (0.97, 0.96, 0.92)),
    "auriceps": ("gold", (0.98, 0.80, 0.16)),
    "azuriceps": ("azure", (0.16, 0.50, 0.93)),
    "nigriceps": ("black", (0.10, 0.09, 0.12)),
    "rubriceps": ("scarlet", (0.86, 0.12, 0.14)),
    "violiceps": ("violet", (0.55, 0.22, 0.72)),
    "viridiceps": ("green", (0.20, 0.66, 0.26)),
}
_BEAKS: tuple[tuple[str, Colour], ...] = (
    ("black", (0.12, 0.11, 0.13)),
    ("orange", (0.96, 0.50, 0.08)),
    ("ivory", (0.95, 0.90, 0.76)),
    ("red", (0.82, 0.14, 0.16)),
    ("slate", (0.40, 0.48, 0.60)),
)
_BEAK_LENGTHS = (0.20, 0.27, 0.34, 0.41, 0.48)
_WING_BARS: tuple[tuple[int, str, Colour], ...] = (
    (0, "none", (0.0, 0.0, 0.0)),
    (1, "white", (0.98, 0.97, 0.94)),
    (2, "white", (0.98, 0.97, 0.94)),
    (1, "yellow", (0.98, 0.84, 0.22)),
    (2, "black", (0.08, 0.08, 0.10)),
)
_SPOTS: tuple[tuple[str, float, str, Colour], ...] = (
    ("none", 0.0, "none", (0.0, 0.0, 0.0)),
    ("fine", 0.32, "black", (0.14, 0.11, 0.12)),
    ("bold", 0.44, "black", (0.14, 0.11, 0.12)),
    ("fine", 0.36, "red", (0.78, 0.16, 0.12)),
    ("bold", 0.46, "white", (0.99, 0.98, 0.95)),
)
_TAILS: tuple[tuple[float, float, str, Colour], ...] = (
    (0.42, 0.07, "black", (0.10, 0.09, 0.12)),
    (0.52, 0.07, "white", (0.97, 0.96, 0.92)),
    (0.60, 0.26, "black", (0.10, 0.09, 0.12)),
    (0.48, 0.26, "yellow", (0.97, 0.80, 0.20)),
    (0.64, 0.07, "red", (0.80, 0.18, 0.16)),
)

# body length, body height, head radius, head forward, head up: robin, wagtail, wren, thrush, bullfinch
_SHAPES = (
    (0.50, 0.40, 0.270, 0.33, -0.34),
    (0.58, 0.31, 0.225, 0.47, -0.30),
    (0.45, 0.42, 0.255, 0.26, -0.30),
    (0.55, 0.37, 0.240, 0.40, -0.37),
    (0.52, 0.43, 0.300, 0.36, -0.28),
)
_STEMS = (
    "alv", "brun", "cael", "dorm", "erem", "fald", "galb", "hirt", "irid", "jasp",
    "kest", "lorm", "mell", "niv", "orel", "pinn", "quel", "rost", "silv", "tarn",
)  # fmt: skip
_GENERA = tuple(stem + end for stem in _STEMS for end in ("ella", "ornis"))


@dataclass(frozen=True)
class Genus:
    """What all species of a genus share: lengths in the bird's own unit, colours as RGB in [0, 1]."""

    name: str
    body: Colour
    belly: Colour
    wing: Colour
    body_length: float
    body_height: float
    head: float
    head_x: float
    head_y: float


@dataclass(frozen=True)
class Species:
    """One class: a genus and the small parts that tell it from the others of that genus."""

    name: str
    genus: Genus
    crown: str
    crown_colour: Colour
    beak: str
    beak_colour: Colour
    beak_length: float
    wing_bars: int
    wing_bar: str
    wing_bar_colour: Colour
    spots: str
    spot_size: float
    spot: str
    spot_colour: Colour
    tail: str
    tail_colour: Colour
    tail_length: float
    tail_fork: float


def catalogue(count: int) -> list[Species]:
    """The first `count` species, in alphabetical order of their names.

    Raises:
        ParamsError: more species are asked for than there are.
    """
    most = PER_GENUS * len(_GENERA)
    if count > most:
        raise ParamsError(f"dataset.species = {count}: plumage knows {most} species")
    return [kind for number in range(-(-count // PER_GENUS)) for kind in _genus(number)][:count]


def _genus(number: int) -> list[Species]:
    genus = _shared(number)
    # The crowns that stand out best from this body, in the order of the names they give.
    by_contrast = sorted(_CROWNS, key=lambda name: -np.abs(np.subtract(_CROWNS[name][1], genus.body)).sum())
    crowns = sorted(by_contrast[:PER_GENUS])
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([20, number])))
    orders = [np.argsort(generator.random(PER_GENUS)) for _ in range(5)]
    return [
        _species(genus, epithet, *(int(order[i]) for order in orders)) for i, epithet in enumerate(crowns)
    ]


def _shared(number: int) -> Genus:
    hue = (0.045 + 0.618034 * number) % 1.0
    saturation, value = ((0.58, 0.74), (0.48, 0.62), (0.68, 0.82))[(number // 4) % 3]
    body = colorsys.hsv_to_rgb(hue, saturation, value)
    belly = colorsys.hsv_to_rgb(hue, 0.30 * saturation, 0.93)
    wing = colorsys.hsv_to_rgb(hue, min(1.0, 1.15 * saturation), 0.62 * value)
    return Genus(_GENERA[number], body, belly, wing, *_SHAPES[number % len(_SHAPES)])


def _species(genus: Genus, epithet: str, beak: int, length: int, bars: int, spots: int, tail: int) -> Species:
    crown, crown_colour = _CROWNS[epithet]
    tail_length, tail_fork, tail_name, tail_colour = _TAILS[tail]
    return Species(
        f"{genus.name}_{epithet}", genus, crown, crown_colour, *_BEAKS[beak], _BEAK_LENGTHS[length],
        *_WING_BARS[bars], *_SPOTS[spots], tail_name, tail_colour, tail_length, tail_fork,
    )  # fmt: skip
