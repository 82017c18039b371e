"""Photographs decoded once to squares of one size, so that training never decodes: images.npy per split."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from discern.data.decode import UndecodableError, decode
from discern.data.manifest import ImageTar
from discern.data.progress import map_in_threads
from discern.errors import DataError
from discern.params.model import Resize
from discern.params.pipeline import Pack

# JPEGs may be decoded smaller, by a power of two; this many times the packed size leaves the antialiasing to
# the resize, which does it well.
_DRAFT = 2


def fit(image: Image.Image, size: int, resize: Resize, resample: Image.Resampling) -> Image.Image:
    """The image as a square.

    Args:
        image: of any size and mode.
        size: side of the square in pixels.
        resize: `crop` keeps the central square, `pad` everything on white (0 in a mask), `squash` everything
            with another aspect ratio.
        resample: antialiasing when `LANCZOS`; `NEAREST` for masks.
    """
    width, height = image.size
    if resize == "squash":
        return image.resize((size, size), resample)
    if resize == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return image.resize((size, size), resample, box=(left, top, left + side, top + side))
    scale = size / max(width, height)
    inner = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), resample)
    square = Image.new(image.mode, (size, size), "white" if image.mode == "RGB" else 0)
    square.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
    return square


def pack_images(images: pd.DataFrame, tar: ImageTar, params: Pack, max_pixels: int, path: Path) -> None:
    """Decode and resize images into one array file.

    Args:
        images: columns path, offset and size, in the order of the array's rows.
        tar: the encoded files.
        params: size and way of resizing.
        max_pixels: as in the data gate.
        path: of the new `.npy`, (N, S, S, 3) uint8.

    Raises:
        DataError: an image cannot be decoded; the data gate saw another file.
    """
    size = params.image_size

    def place(row: tuple[int, str, int, int]) -> None:
        number, name, offset, length = row
        try:
            image = decode(tar.read(offset, length), max_pixels, draft=_DRAFT * size).image
        except UndecodableError as error:
            raise DataError(f"{name!r}: {error}; data/raw has changed since: dvc repro -f validate") from error
        write(number, np.asarray(fit(image, size, params.resize, Image.Resampling.LANCZOS)))

    columns = (images[name].tolist() for name in ("path", "offset", "size"))
    rows = zip(range(len(images)), *columns, strict=True)
    with row_writer(path, np.uint8, (len(images), size, size, 3)) as write:
        for _ in map_in_threads(place, rows, path.parent.name, len(images)):
            pass


@contextmanager
def row_writer(
    path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]
) -> Iterator[Callable[[int, npt.NDArray[Any]], None]]:
    """A new `.npy` whose rows are written by number, from any thread.

    By position and not through a memory map, whose pages would count as memory of this process: it stays flat,
    however many rows there are.

    Yields:
        The function that writes a row of `shape[1:]`.
    """
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    size = np.dtype(dtype).itemsize * math.prod(shape[1:])
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + shape[0] * size)
        file.flush()
        yield lambda row, values: _write_at(file.fileno(), values.astype(dtype).tobytes(), start + row * size)


def _write_at(file: int, content: bytes, position: int) -> None:
    done = 0
    while done < len(content):  # a nearly full disk takes a part, and says so the next time
        done += os.pwrite(file, content[done:], position + done)


@dataclass(frozen=True)
class PartMasks:
    """Which pixels of a drawn image tell its class, kept as bits.

    Attributes:
        rows: number of each image by its path.
        side: of the masks, in pixels.
        bits: all masks one after the other.
    """

    rows: dict[str, int]
    side: int
    bits: npt.NDArray[np.uint8]

    @classmethod
    def load(cls, truth: Path) -> "PartMasks":
        """Read truth.npz of a drawn data set."""
        with np.load(truth, allow_pickle=False) as arrays:
            rows = {str(path): row for row, path in enumerate(arrays["paths"])}
            return cls(rows, int(arrays["shape"][-1]), arrays["parts"])

    def mask(self, path: str) -> npt.NDArray[np.bool_]:
        """The mask (side, side) of one image."""
        area = self.side**2
        start = self.rows[path] * area
        around = np.unpackbits(self.bits[start // 8 : -(-(start + area) // 8)])
        return around[start % 8 :][:area].reshape(self.side, self.side).astype(bool)


def pack_masks(paths: list[str], masks: PartMasks, params: Pack, path: Path) -> None:
    """Masks in the geometry of the packed images, as a new `.npy`: (N, S, S) bool."""
    size = params.image_size
    with row_writer(path, np.bool_, (len(paths), size, size)) as write:
        for row, name in enumerate(paths):
            mask = Image.fromarray(masks.mask(name).astype(np.uint8))
            write(row, np.asarray(fit(mask, size, params.resize, Image.Resampling.NEAREST)) > 0)
