"""The data set `plumage` as arrays: which pictures there are, and the drawing of them in batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from discern.data.plumage import bird, scenery
from discern.data.plumage.nuisance import HABITATS, Nuisances, sample
from discern.data.plumage.shapes import turn
from discern.data.plumage.species import Species, catalogue
from discern.params.dataset import Plumage

SPLITS = ("train", "test")
_CHUNK_PIXELS = 2**15  # float64 planes of this size stay in a core's cache


@dataclass(frozen=True)
class Drawn:
    """The drawn data set, species by species, training pictures before test pictures.

    Attributes:
        images: (N, S, S, 3) uint8.
        labels: (N,) int64, indices of `names`.
        names: species names, sorted.
        split: (N,) `train` or `test`.
        parts: (N, S, S) bool, every pixel to which a part that tells this species from the others contributes,
            edges included: two species of a genus, drawn alike, differ nowhere outside their two masks.
        bird: (N, S, S) bool, every pixel to which the bird contributes.
        attributes: one row per picture: species, genus, the species' traits and the picture's nuisances.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    names: list[str]
    split: NDArray[np.str_]
    parts: NDArray[np.bool_]
    bird: NDArray[np.bool_]
    attributes: pd.DataFrame


@dataclass(frozen=True)
class Rendered:
    """What `render` makes of a list of species and keys; see `Drawn`. `nuisances` holds (N,) values by name."""

    images: NDArray[np.uint8]
    parts: NDArray[np.bool_]
    bird: NDArray[np.bool_]
    nuisances: dict[str, NDArray[Any]]


def draw(params: Plumage) -> Drawn:
    """Draw the whole data set.

    A picture depends on the seed, its species, its split and its number within them, and on nothing else:
    asking for more pictures or species leaves the earlier ones as they were.

    Raises:
        ParamsError: more species are asked for than there are.
    """
    species = catalogue(params.species)
    counts = (params.train_per_species, params.test_per_species)
    keys = np.array(
        [
            (params.seed, label, split, number)
            for label in range(params.species)
            for split, count in enumerate(counts)
            for number in range(count)
        ],
        dtype=np.int64,
    )
    labels = keys[:, 1]
    kinds = [species[label] for label in labels]
    rendered = render(kinds, keys, params.image_size, params.nuisance)
    split = np.array(SPLITS)[keys[:, 2]]
    traits = pd.DataFrame([_traits(kind) for kind in kinds])
    return Drawn(
        images=rendered.images,
        labels=labels,
        names=[kind.name for kind in species],
        split=split,
        parts=rendered.parts,
        bird=rendered.bird,
        attributes=traits.assign(**rendered.nuisances),
    )


def render(kinds: Sequence[Species], keys: NDArray[np.int64], size: int, nuisance: float) -> Rendered:
    """Draw one picture per species and key.

    Args:
        kinds: N species.
        keys: (N, K) whole numbers that fix each picture's nuisances.
        size: side in pixels.
        nuisance: in [0, 1].
    """
    step = max(1, _CHUNK_PIXELS // (size * size))
    chunks = [
        _render(kinds[start : start + step], sample(keys[start : start + step], size, nuisance), size)
        for start in range(0, len(keys), step)
    ]
    return Rendered(
        images=np.concatenate([chunk.images for chunk in chunks]),
        parts=np.concatenate([chunk.parts for chunk in chunks]),
        bird=np.concatenate([chunk.bird for chunk in chunks]),
        nuisances={
            name: np.concatenate([chunk.nuisances[name] for chunk in chunks]) for name in chunks[0].nuisances
        },
    )


def _render(kinds: Sequence[Species], nuisances: Nuisances, size: int) -> Rendered:
    values = nuisances.values
    frame_x, frame_y = scenery.frame(size)
    x, y = turn(frame_x - values["x"], frame_y - values["y"], values["rotation"])
    x, y = x / values["scale"] * nuisances.flip[:, None, None], y / values["scale"]
    pixel = 2.0 / size / values["scale"]
    light = 1.04 - 0.26 * (np.cos(values["light"]) * x + np.sin(values["light"]) * y)
    canvas = scenery.background(nuisances, size)
    scenery.branch(canvas, nuisances, x, y - bird.PERCH - 0.06, pixel)
    bird.paint(canvas, kinds, bird.View(x, y, pixel, light, values["nod"], values["tail_lift"]))
    rgb = scenery.illuminate(canvas.rgb, nuisances)
    return Rendered(
        images=np.moveaxis(np.rint(np.clip(rgb, 0.0, 1.0) * 255.0).astype(np.uint8), 0, -1),
        parts=canvas.parts > 0.0,
        bird=canvas.bird > 0.0,
        nuisances={name: column[:, 0, 0] for name, column in values.items()}
        | {"flip": nuisances.flip < 0.0, "habitat": np.array(list(HABITATS))[nuisances.habitat]},
    )


def _traits(kind: Species) -> dict[str, str | float]:
    return {
        "species": kind.name,
        "genus": kind.genus.name,
        "crown": kind.crown.name,
        "beak": kind.beak.name,
        "beak_length": kind.beak_length,
        "wing_bars": kind.wing_bars.count,
        "wing_bar_colour": kind.wing_bars.name,
        "spot_size": kind.spots.size,
        "spot_colour": kind.spots.name,
        "tail": kind.tail.name,
        "tail_length": kind.tail.length,
        "tail_fork": kind.tail.fork,
    }
