"""A trained encoder at work on photographs outside the pipeline: features of a folder, neighbours of one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from discern.data.decode import UndecodableError, decode
from discern.data.packing import fit
from discern.embedding.features import extract
from discern.errors import DataError
from discern.images.packed import PackedSplit
from discern.models.making import Making, read_making
from discern.models.weights import load_encoder
from discern.training.device import resolve_device

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
CHUNK = 512  # photographs decoded at once; memory stays flat however many there are
BATCH = 128


@dataclass(frozen=True)
class Embedded:
    """Features of photographs.

    Attributes:
        paths: of those that could be read.
        features: (N, D) float32, in the same order; pooled, not normalised.
        skipped: path → why it could not be read.
    """

    paths: list[Path]
    features: npt.NDArray[np.float32]
    skipped: dict[Path, str]


@dataclass(frozen=True)
class Neighbour:
    """One training image like the query; `label` is None where it has none."""

    path: str
    label: str | None
    similarity: float


def photos_in(folder: Path) -> list[Path]:
    """Every picture file in a folder and below it, sorted.

    Raises:
        DataError: there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"{folder}: no pictures ({', '.join(sorted(SUFFIXES))})")
    return found


def embed(photos: Sequence[Path], encoder: Path) -> Embedded:
    """Features of photographs, decoded and resized as packing does it.

    Args:
        photos: files; those that cannot be decoded are skipped.
        encoder: folder with encoder.safetensors and encoder.json.

    Raises:
        ModelError: the encoder is missing or damaged.
        DataError: no photograph could be read.
    """
    device = resolve_device()
    model = load_encoder(encoder).to(device)
    making = read_making(encoder)
    paths: list[Path] = []
    features: list[npt.NDArray[np.float32]] = []
    skipped: dict[Path, str] = {}
    for start in range(0, len(photos), CHUNK):
        squares = dict(_squares(photos[start : start + CHUNK], making, skipped))
        if squares:
            paths += squares
            features.append(extract(model, np.stack(list(squares.values())), device, BATCH, "fp32"))
    if not features:
        path, reason = next(iter(skipped.items()), (Path(), "no photographs were given"))
        raise DataError(f"{path}: {reason}")
    return Embedded(paths, np.concatenate(features), skipped)


def nearest(photo: Path, encoder: Path, packed: Path, count: int) -> list[Neighbour]:
    """The images of a packed split that the encoder finds most like a photograph, the nearest first.

    Raises:
        ModelError: the encoder is missing or damaged.
        DataError: the photograph cannot be read, or the split is not there.
    """
    split = PackedSplit.load(packed)
    query = embed([photo], encoder).features
    device = resolve_device()
    gallery = extract(load_encoder(encoder).to(device), split.images, device, BATCH, "fp32")
    similarity = (_unit(gallery) @ _unit(query).T)[:, 0]  # (N,)
    order = np.argsort(-similarity, kind="stable")[:count]
    return [
        Neighbour(
            str(split.index["path"].iloc[row]),
            split.classes[split.labels[row]] if split.labels[row] >= 0 else None,
            float(similarity[row]),
        )
        for row in order
    ]


def _squares(
    photos: Sequence[Path], making: Making, skipped: dict[Path, str]
) -> Iterator[tuple[Path, npt.NDArray[np.uint8]]]:
    for path in photos:
        try:
            image = decode(path.read_bytes(), making.max_pixels, draft=2 * making.image_size).image
        except UndecodableError as error:
            skipped[path] = str(error)
        except OSError as error:
            skipped[path] = error.strerror or str(error)
        else:
            yield path, np.asarray(fit(image, making.image_size, making.resize, Image.Resampling.LANCZOS))


def _unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    unit: npt.NDArray[np.float32] = features / np.linalg.norm(features, axis=1, keepdims=True).clip(1e-12)
    return unit
