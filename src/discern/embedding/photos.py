"""A trained encoder at work on photographs from anywhere: what serving, the command line and Python share."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from discern.embedding.features import extract
from discern.embedding.gallery import Gallery, Neighbour
from discern.embedding.reading import CHUNK, Photos, Squares, batches, squares
from discern.embedding.streams import in_streams
from discern.errors import DataError
from discern.images.packed import PackedSplit
from discern.machine import allowed_threads
from discern.models.encoder import ImageEncoder
from discern.models.folding import folded
from discern.models.making import Making, read_making
from discern.models.weights import load_encoder
from discern.training.device import resolve_device

BATCH = 64  # photographs in one forward pass
COUNT = 6  # neighbours, where the caller does not say
INDEX = "index.npz"  # the gallery beside a registered encoder


@dataclass(frozen=True)
class Embedded:
    """Features of photographs.

    Attributes:
        names: of those that could be read: the path, or the number among those given.
        features: (N, D) float32, in the same order; pooled, not normalised.
        skipped: name → why it could not be read.
    """

    names: list[str]
    features: npt.NDArray[np.float32]
    skipped: dict[str, str]


class PhotoEncoder:
    """An encoder with all it needs to know about photographs, on the device of `DISCERN_DEVICE`.

    Args:
        encoder: trained; features are computed by a copy of it, so it is not to be trained on.
        making: what stands beside its weights.
        gallery: known images that `neighbours` compares with.

    Attributes:
        making: how the encoder came about and how it wants its images.
        gallery: None before `index`, where the encoder was not registered.
    """

    def __init__(self, encoder: ImageEncoder, making: Making, gallery: Gallery | None = None) -> None:
        self.making, self.gallery = making, gallery
        self._device = resolve_device()
        self._encoder = encoder.to(self._device)
        self._network = folded(self._encoder, making.image_size)
        # Of several streams, one at a time computes on a GPU: more at once would only need more of its memory.
        self._turn = nullcontext() if self._device.type == "cpu" else Lock()

    @classmethod
    def load(cls, folder: str | PathLike[str]) -> "PhotoEncoder":
        """The encoder of a folder that training wrote, or that `discern register` packed, with its gallery.

        Raises:
            ModelError: the encoder is missing or damaged.
        """
        folder = Path(folder)
        packed = (folder / "encoder").is_dir()
        weights = folder / "encoder" if packed else folder
        gallery = Gallery.load(folder / INDEX) if packed and (folder / INDEX).is_file() else None
        return cls(load_encoder(weights), read_making(weights), gallery)

    @property
    def dim(self) -> int:
        """Number of features D of a photograph."""
        return self._encoder.dim

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the features of a photograph: network, weights, and how images are made."""
        sha = hashlib.sha256(json.dumps([self._encoder.params.model_dump(), asdict(self.making)]).encode())
        for name, tensor in sorted(self._encoder.state_dict().items()):
            sha.update(name.encode())
            sha.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
        return sha.hexdigest()

    def embed(self, photos: Photos) -> Embedded:
        """Features of photographs, decoded and resized as packing does it.

        Args:
            photos: a path, the content of a file, a Pillow image or an array (H, W, 3), or several of them;
                a folder stands for every picture below it; an array may be (N, H, W, 3). Arrays are uint8.

        Raises:
            DataError: no photograph could be read.
        """
        parts = list(self.parts(photos))
        skipped = {name: why for part in parts for name, why in part.skipped.items()}
        names = [name for part in parts for name in part.names]
        if not names:
            raise nothing_read(skipped)
        return Embedded(names, np.concatenate([part.features for part in parts]), skipped)

    def parts(self, photos: Photos, chunk: int = CHUNK) -> Iterator[Embedded]:
        """The same, some photographs at a time: memory stays flat however many there are.

        While one part is computed, others are decoded: photographs are taken a few parts ahead.

        Args:
            photos: as in `embed`; an iterable may be endless.
            chunk: photographs at a time, at most.
        """
        taken = batches(photos, chunk)
        first = next(taken, [])
        if len(first) < chunk:  # all there is: it gets every thread
            with ThreadPoolExecutor(allowed_threads()) as pool:
                yield from [self._embedded(squares(first, self.making, pool.map))] if first else []
            return
        yield from in_streams(lambda some: self._embedded(squares(some, self.making)), chain([first], taken))

    def _embedded(self, made: Squares) -> Embedded:
        features = np.empty((0, self.dim), np.float32)
        if made.names:
            with self._turn:
                features = extract(self._network, made.images, self._device, BATCH, "fp32")
        return Embedded(made.names, features, made.skipped)

    def index(self, among: Photos) -> dict[str, str]:
        """Make the gallery that `neighbours` compares with from now on.

        Args:
            among: a packed split (`data/packed/train`), or photographs as in `embed`; in a folder, names of
                folders and split.csv give the labels, as in a data set.

        Returns:
            What could not be read: its name → why.

        Raises:
            DataError: no photograph could be read.
        """
        folder = Path(among) if isinstance(among, str | PathLike) else None
        if folder is not None and (folder / "images.npy").is_file():
            split = PackedSplit.load(folder)
            labels = [split.classes[number] if number >= 0 else "" for number in split.labels]
            features = self.embed(split.images).features
            self.gallery = Gallery.of(features, split.index["path"].astype(str).tolist(), labels)
            return {}
        found = self.embed(among)
        known = {} if folder is None or not folder.is_dir() else _labels(folder)
        self.gallery = Gallery.of(found.features, found.names, [known.get(name, "") for name in found.names])
        return found.skipped

    def neighbours(self, photos: Photos, count: int = COUNT) -> list[list[Neighbour]]:
        """The images of the gallery most like each photograph, the nearest first.

        Args:
            photos: as in `embed`.
            count: how many, at most.

        Raises:
            DataError: a photograph cannot be read, or there is no gallery.
        """
        if self.gallery is None:
            raise DataError("there is nothing to find neighbours among: call `index` with a folder first")
        found = self.embed(photos)
        for name, why in found.skipped.items():
            raise DataError(f"{name}: {why}")
        return self.gallery.nearest(found.features, count)


def nothing_read(skipped: dict[str, str]) -> DataError:
    """What to raise where no photograph could be read: the first of them (name → why) stands for all."""
    return DataError(next((f"{name}: {why}" for name, why in skipped.items()), "no photographs were given"))


def _labels(folder: Path) -> dict[str, str]:
    """Label of each file of a folder that has one, by the rules of a data set."""
    from discern.data.sources.layout import SPLIT_TABLE, arrange  # a server has no use for sources of data

    names = {path.relative_to(folder).as_posix(): str(path) for path in folder.rglob("*") if path.is_file()}
    table = folder / SPLIT_TABLE
    listed = arrange(str(folder), names, table.read_bytes() if table.is_file() else None)
    return {names[one.name]: one.label for one in listed if one.label is not None}
