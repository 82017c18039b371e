"""Features of a folder's photographs as a file: written as they are computed, and gone on with after a kill."""

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from discern.embedding.parts import Parts, Rows, listing_digest
from discern.embedding.photos import Embedded, PhotoEncoder, nothing_read
from discern.embedding.progress import EmbeddingProgress
from discern.errors import DataError, StorageError
from discern.workspace import atomic_file

SCHEMA = pa.schema({"path": pa.string(), "features": pa.list_(pa.float32())})
# A part of a .parquet ends with the first of these two: what is held in memory, and what a kill costs, at most.
PART_BYTES = 32 << 20
PART_S = 30.0


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


def write_features(
    encoder: PhotoEncoder, names: Sequence[str], folder: Path, out: Path, tell: Callable[[str], None]
) -> Written:
    """Embed photographs and write their features.

    A .parquet (columns path and features) grows as they are read, so any number of them needs the same memory.
    Until it is whole its parts lie in `OUT.parts`, and a run that was killed goes on with them where it stopped.
    An .npz (arrays paths and features) is written in one piece.

    Args:
        encoder: it gives the features.
        names: photographs, relative to `folder`, which the file has for paths.
        folder: where they are.
        out: the file; appears whole or not at all.
        tell: is told where it goes on, and what is begun anew and why.

    Raises:
        DataError: no photograph could be read, or another process writes this very file.
        StorageError: the disk is full, or the file is not ours to write.
    """
    try:
        if out.suffix == ".parquet":
            return _parquet(encoder, names, folder, out, tell)
        return _npz(encoder, names, folder, out)
    except OSError as error:
        reason = "the disk is full; free some space" if error.errno == errno.ENOSPC else str(error)
        raise StorageError(f"{out} cannot be written: {reason}, and give the same command again") from error


def _parquet(
    encoder: PhotoEncoder, names: Sequence[str], folder: Path, out: Path, tell: Callable[[str], None]
) -> Written:
    parts = Parts(out)
    with _alone(parts.folder):
        changed = parts.open({"encoder": encoder.digest, "photographs": listing_digest(folder, names)})
        if changed:
            tell(f"{parts.folder} is of another run ({changed} changed): begun anew")
        done = parts.done()
        if done:
            tell(f"{parts.folder}: goes on after {done:,} of {len(names):,} photographs")
        _fill(parts, done, encoder, names, folder)
        count, skipped = 0, {str(folder / name): why for name, why in parts.skipped().items()}
        with atomic_file(out) as partial:
            with pq.ParquetWriter(partial, SCHEMA, use_dictionary=["path"]) as writer:
                for table in parts.tables():
                    good = table.filter(pc.is_null(table["why"])).select(SCHEMA.names)
                    writer.write_table(good)  # a row group of its own
                    count += good.num_rows
            if not count:
                parts.remove()
                raise nothing_read(skipped)
        parts.remove()
    return Written(count, encoder.dim, skipped)


def _fill(parts: Parts, done: int, encoder: PhotoEncoder, names: Sequence[str], folder: Path) -> None:
    """Write parts until all photographs are done."""
    rows, held, began = Rows(), 0, time.monotonic()

    def flush() -> None:
        nonlocal done, rows, held, began
        if len(rows):
            parts.write(done, rows)
            done, rows, held, began = done + len(rows), Rows(), 0, time.monotonic()

    try:
        for one in _shown(encoder, names, folder, done, len(parts.skipped())):
            rows.names += one.names
            rows.features.append(one.features)
            rows.skipped |= one.skipped
            held += one.features.nbytes
            if held >= PART_BYTES or time.monotonic() - began >= PART_S:
                flush()
    except KeyboardInterrupt:
        flush()  # nothing of what is done has to be done again
        raise
    flush()


def _npz(encoder: PhotoEncoder, names: Sequence[str], folder: Path, out: Path) -> Written:
    found = list(_shown(encoder, names, folder, 0, 0))
    skipped = {str(folder / name): why for one in found for name, why in one.skipped.items()}
    paths = [name for one in found for name in one.names]
    if not paths:
        raise nothing_read(skipped)
    with atomic_file(out) as partial, partial.open("wb") as target:  # given a name, numpy would add `.npz`
        features = np.concatenate([one.features for one in found])
        np.savez(target, paths=np.array(paths, np.str_), features=features)
    return Written(len(paths), encoder.dim, skipped)


def _shown(
    encoder: PhotoEncoder, names: Sequence[str], folder: Path, done: int, skipped: int
) -> Iterator[Embedded]:
    """What is left to do, part by part and under names relative to the folder, with progress."""
    with EmbeddingProgress(len(names), done, skipped) as progress:
        start = done
        for one in encoder.parts(folder / names[number] for number in range(done, len(names))):
            end = start + len(one.names) + len(one.skipped)
            # Parts come in order, so those that were skipped are found by their paths among these names.
            known = {str(folder / name): name for name in names[start:end]}
            start, skipped = end, skipped + len(one.skipped)
            progress.update(end, skipped)
            unread = {known[path]: why for path, why in one.skipped.items()}
            yield Embedded([known[path] for path in one.names], one.features, unread)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process works with the parts."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise DataError(
            f"{folder}: another process is writing there; wait for it, or give another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()
