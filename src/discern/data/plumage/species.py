"""Which birds there are: a genus fixes body hue and shape, a species the small parts.

The catalogue does not depend on the data set's seed: two seeds are two samples of the same population.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

from discern.errors import ParamsError

Colour = tuple[float, float, float]

PER_GENUS = 5


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
class Patch:
    """A part that is told by its colour."""

    name: str
    colour: Colour


@dataclass(frozen=True)
class WingBars:
    """Bars across the wing."""

    count: int
    name: str
    colour: Colour


@dataclass(frozen=True)
class Spots:
    """Spots on the breast; `size` is their radius as a share of their spacing."""

    size: float
    name: str
    colour: Colour


@dataclass(frozen=True)
class Tail:
    """Length, half the angle between the outer feathers, and the colour of the tip."""

    length: float
    fork: float
    name: str
    colour: Colour


@dataclass(frozen=True)
class Species:
    """One class: a genus and the small parts that tell it from the others of that genus."""

    name: str
    genus: Genus
    crown: Patch
    beak: Patch
    beak_length: float
    wing_bars: WingBars
    spots: Spots
    tail: Tail


_BLACK, _WHITE = (0.10, 0.09, 0.12), (0.97, 0.96, 0.92)
_RED, _GOLD = (0.82, 0.15, 0.14), (0.98, 0.80, 0.18)
# Crowns differ in lightness and saturation as well as hue, so that colour jitter leaves them apart.
_CROWNS = {
    "albiceps": Patch("white", _WHITE),
    "auriceps": Patch("gold", _GOLD),
    "azuriceps": Patch("azure", (0.16, 0.50, 0.93)),
    "nigriceps": Patch("black", _BLACK),
    "rubriceps": Patch("red", _RED),
    "violiceps": Patch("violet", (0.55, 0.22, 0.72)),
    "viridiceps": Patch("green", (0.20, 0.66, 0.26)),
}
_BEAKS = (
    Patch("black", _BLACK),
    Patch("orange", (0.96, 0.50, 0.08)),
    Patch("ivory", (0.95, 0.90, 0.76)),
    Patch("red", _RED),
    Patch("slate", (0.40, 0.48, 0.60)),
)
_BEAK_LENGTHS = (0.20, 0.28, 0.36, 0.44, 0.52)
_WING_BARS = (
    WingBars(0, "none", _BLACK),
    WingBars(1, "white", _WHITE),
    WingBars(2, "white", _WHITE),
    WingBars(1, "gold", _GOLD),
    WingBars(2, "black", _BLACK),
)
_SPOTS = (
    Spots(0.0, "none", _BLACK),
    Spots(0.32, "black", _BLACK),
    Spots(0.44, "black", _BLACK),
    Spots(0.36, "red", _RED),
    Spots(0.46, "white", _WHITE),
)
_TAILS = (
    Tail(0.42, 0.07, "black", _BLACK),
    Tail(0.52, 0.07, "white", _WHITE),
    Tail(0.60, 0.26, "black", _BLACK),
    Tail(0.48, 0.26, "gold", _GOLD),
    Tail(0.64, 0.07, "red", _RED),
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
    by_contrast = sorted(_CROWNS, key=lambda name: -np.abs(np.subtract(_CROWNS[name].colour, genus.body)).sum())
    crowns = sorted(by_contrast[:PER_GENUS])
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence([20, number])))
    orders = [np.argsort(generator.random(PER_GENUS)) for _ in range(5)]
    return [
        Species(
            f"{genus.name}_{epithet}",
            genus,
            _CROWNS[epithet],
            _BEAKS[beak],
            _BEAK_LENGTHS[length],
            _WING_BARS[bars],
            _SPOTS[spots],
            _TAILS[tail],
        )
        for epithet, beak, length, bars, spots, tail in zip(crowns, *orders, strict=True)
    ]


def _shared(number: int) -> Genus:
    hue = (0.045 + 0.618034 * number) % 1.0
    saturation, value = ((0.58, 0.74), (0.48, 0.62), (0.68, 0.82))[(number // 4) % 3]
    body = colorsys.hsv_to_rgb(hue, saturation, value)
    belly = colorsys.hsv_to_rgb(hue, 0.30 * saturation, 0.93)
    wing = colorsys.hsv_to_rgb(hue, min(1.0, 1.15 * saturation), 0.62 * value)
    return Genus(_GENERA[number], body, belly, wing, *_SHAPES[number % len(_SHAPES)])
