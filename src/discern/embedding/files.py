"""Features of a folder's photographs as a file, written as they are computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from discern.embedding.photos import Embedded, PhotoEncoder, nothing_read
from discern.workspace import atomic_file

SCHEMA = pa.schema({"path": pa.string(), "features": pa.list_(pa.float32())})


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        count: photographs.
        dim: features of each.
        skipped: path → why it could not be read.
    """

    count: int
    dim: int
    skipped: dict[str, str]


def write_features(encoder: PhotoEncoder, photos: Sequence[Path], folder: Path, out: Path) -> Written:
    """Embed photographs and write their features.

    A .parquet (columns path and features) grows as they are read, so any number of them needs the same memory; an
    .npz (arrays paths and features) is written in one piece.

    Args:
        encoder: it gives the features.
        photos: files below `folder`.
        folder: paths are written relative to it.
        out: the file; appears whole or not at all.

    Raises:
        DataError: no photograph could be read.
    """
    with atomic_file(out) as partial:
        return (_parquet if out.suffix == ".parquet" else _npz)(encoder, photos, folder, partial)


def _parquet(encoder: PhotoEncoder, photos: Sequence[Path], folder: Path, file: Path) -> Written:
    count, skipped = 0, dict[str, str]()
    with pq.ParquetWriter(file, SCHEMA) as writer:
        for part in encoder.parts(photos):
            writer.write_table(pa.table([_relative(part, folder), list(part.features)], schema=SCHEMA))
            count += len(part.names)
            skipped |= part.skipped
    if not count:
        raise nothing_read(skipped)
    return Written(count, encoder.dim, skipped)


def _npz(encoder: PhotoEncoder, photos: Sequence[Path], folder: Path, file: Path) -> Written:
    found = encoder.embed(photos)
    with file.open("wb") as target:  # given a name, numpy would add `.npz`
        np.savez(target, paths=np.array(_relative(found, folder), np.str_), features=found.features)
    return Written(len(found.names), encoder.dim, found.skipped)


def _relative(found: Embedded, folder: Path) -> list[str]:
    return [Path(name).relative_to(folder).as_posix() for name in found.names]
