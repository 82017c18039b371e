"""Reading one packed split: what every stage after pack starts from."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from discern.errors import DataError


@dataclass(frozen=True)
class PackedSplit:
    """Images of one split with their labels, in one order; may be empty.

    Attributes:
        images: (N, S, S, 3) uint8, memory-mapped.
        index: N rows: path, label (or missing), label_id, sha256.
        labels: (N,) numbers into `classes`; -1 without a label.
        classes: names, sorted; empty for an unlabelled data set.
        parts: (N, S, S) bool, memory-mapped: pixels that tell the class; None where nobody knows them.
        digest: first 32 characters (as many as MLflow takes) of the SHA-256 of index.parquet, so of the images'
            checksums, labels and order.
    """

    images: npt.NDArray[np.uint8]
    index: pd.DataFrame
    labels: npt.NDArray[np.int64]
    classes: list[str]
    parts: npt.NDArray[np.bool_] | None
    digest: str

    @classmethod
    def load(cls, folder: Path) -> "PackedSplit":
        """Open data/packed/SPLIT.

        Raises:
            DataError: it is not there, or its files do not belong together.
        """
        try:
            images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
            table = (folder / "index.parquet").read_bytes()
            classes = json.loads((folder.parent / "classes.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DataError(f"{error.filename}: no such file; run `dvc repro pack`") from error
        index = pd.read_parquet(folder / "index.parquet")
        if len(index) != len(images):
            raise DataError(f"{folder}: {len(images)} images but {len(index)} rows; run `dvc repro -f pack`")
        parts = folder / "parts.npy"
        return cls(
            images=images,
            index=index,
            labels=index["label_id"].to_numpy(np.int64),
            classes=classes,
            parts=np.load(parts, mmap_mode="r", allow_pickle=False) if parts.exists() else None,
            digest=hashlib.sha256(table).hexdigest()[:32],
        )


def evenly_spread(count: int, most: int) -> npt.NDArray[np.int64]:
    """Up to `most` row numbers of `count`, evenly spread, rising."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))
