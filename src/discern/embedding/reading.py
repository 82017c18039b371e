"""Photographs in whatever form they come, as the squares that an encoder wants: the way packing makes them."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from discern.data.decode import UndecodableError, decode, to_rgb
from discern.data.packing import fit
from discern.errors import DataError
from discern.machine import allowed_threads
from discern.models.making import Making

Pixels = npt.NDArray[np.uint8]
Photo = str | PathLike[str] | bytes | Image.Image | Pixels
"""A file, the content of a file, a Pillow image, or pixels (H, W, 3)."""
Photos = Photo | Iterable[Photo]
"""One photograph or several: a folder stands for every picture below it, an array may be (N, H, W, 3)."""
Batch = list[tuple[str, Photo]]
"""Photographs with their names: the path, or the number among those given."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
CHUNK = 64  # photographs that are read and computed together; memory stays flat however many there are


@dataclass(frozen=True)
class Squares:
    """Some photographs, made square.

    Attributes:
        names: of those that could be read: the path, or the number among those given.
        images: (N, S, S, 3) uint8, in the same order.
        skipped: name → why it could not be read.
    """

    names: list[str]
    images: Pixels
    skipped: dict[str, str]


def names_in(folder: Path) -> list[str]:
    """Every picture file in a folder and below it, relative to it and with `/`, sorted folder by folder.

    Texts and no paths: of a million photographs they take a tenth of the memory.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found: list[str] = []
    for below, _, files in os.walk(folder):
        paths = [Path(below, file) for file in files]
        found += [p.relative_to(folder).as_posix() for p in paths if p.suffix.lower() in SUFFIXES and p.is_file()]
    if not found:
        raise DataError(f"{folder}: no pictures ({', '.join(sorted(SUFFIXES))})")
    return sorted(found, key=lambda name: name.split("/"))


def photos_in(folder: Path) -> list[Path]:
    """The same as paths.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    return [folder / name for name in names_in(folder)]


def read(photos: Photos, making: Making, chunk: int = CHUNK) -> Iterator[Squares]:
    """Photographs as squares, some at a time.

    Args:
        photos: read as they are asked for; an iterable may be endless.
        making: side, way of resizing and largest number of pixels; what training saw.
        chunk: how many at a time, at most.

    Raises:
        DataError: a folder is empty, or what is given is no photograph at all.
    """
    with ThreadPoolExecutor(allowed_threads()) as pool:  # Pillow lets other threads run while it decodes
        for some in batches(photos, chunk):
            yield squares(some, making, pool.map)


def squares(some: Batch, making: Making, run: Callable[..., Iterable[Any]] = map) -> Squares:
    """Some photographs as squares.

    Args:
        some: with their names.
        making: as in `read`.
        run: `map`, or that of a pool of threads.

    Raises:
        DataError: one of them is no photograph at all.
    """
    pixels: list[Pixels | str] = list(run(lambda one: _square(one[1], making), some))
    made, names, skipped = [], [], {}
    for (name, _), square in zip(some, pixels, strict=True):
        if isinstance(square, str):
            skipped[name] = square
        else:
            names.append(name)
            made.append(square)
    size = making.image_size
    return Squares(names, np.stack(made) if made else np.empty((0, size, size, 3), np.uint8), skipped)


def batches(photos: Photos, size: int) -> Iterator[Batch]:
    """Photographs with their names, `size` at a time, taken as they are asked for.

    Raises:
        DataError: a folder is empty, or what is given is no photograph at all.
    """
    named = _named(photos)
    while some := list(islice(named, size)):
        yield some


def _named(photos: Photos) -> Iterator[tuple[str, Photo]]:
    if isinstance(photos, str | PathLike):
        path = Path(photos)
        photos = photos_in(path) if path.is_dir() else [path]
    elif isinstance(photos, np.ndarray):
        photos = _checked(photos, (3, 4))
        photos = [photos] if photos.ndim == 3 else photos
    elif isinstance(photos, bytes | Image.Image):
        photos = [photos]
    for number, photo in enumerate(photos):
        yield fspath(photo) if isinstance(photo, str | PathLike) else str(number), photo


def _square(photo: Photo, making: Making) -> Pixels | str:
    """The photograph (S, S, 3), or why it cannot be read."""
    try:
        image = _decoded(photo, making)
    except UndecodableError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)
    return np.asarray(fit(image, making.image_size, making.resize, Image.Resampling.LANCZOS))


def _decoded(photo: Photo, making: Making) -> Image.Image:
    if isinstance(photo, np.ndarray):
        return Image.fromarray(_checked(photo, (3,)))
    if isinstance(photo, Image.Image):
        return to_rgb(photo, making.max_pixels).image
    data = photo if isinstance(photo, bytes) else Path(photo).read_bytes()
    return decode(data, making.max_pixels, draft=2 * making.image_size).image


def _checked(pixels: Pixels, dimensions: tuple[int, ...]) -> Pixels:
    if pixels.dtype != np.uint8 or pixels.ndim not in dimensions or pixels.shape[-1] != 3:
        raise DataError(
            f"photographs as arrays are uint8 (H, W, 3) or (N, H, W, 3), not {pixels.dtype} {pixels.shape}"
        )
    return pixels
