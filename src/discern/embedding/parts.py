"""Features of a folder so far, as files beside the output: what a run that was killed leaves to the next one."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from discern.workspace import atomic_file

# `why` says why a photograph could not be read; its features are empty then.
SCHEMA = pa.schema({"path": pa.string(), "features": pa.list_(pa.float32()), "why": pa.string()})
_NAME = re.compile(r"(\d{12})-(\d{12})\.parquet")


@dataclass
class Rows:
    """Photographs that are done and not written yet.

    Attributes:
        names: of those that could be read.
        features: (n, D) arrays, together as long as `names`.
        skipped: name → why it could not be read.
    """

    names: list[str] = field(default_factory=list)
    features: list[npt.NDArray[np.float32]] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names) + len(self.skipped)

    def table(self) -> pa.Table:
        """These photographs as a table, those that could not be read last."""
        values = np.concatenate(self.features) if self.features else np.empty((0, 0), np.float32)  # (n, D)
        ends = np.arange(len(self.names) + 1) * values.shape[1]
        offsets = np.concatenate([ends, np.full(len(self.skipped), ends[-1])]).astype(np.int32)
        features = pa.ListArray.from_arrays(offsets, values.ravel())
        whys = [None] * len(self.names) + list(self.skipped.values())
        return pa.table([self.names + list(self.skipped), features, whys], schema=SCHEMA)


class Parts:
    """The folder `OUT.parts`: one file for each run of photographs that are done, named by their numbers.

    A part appears whole or not at all, so a process may be killed at any moment. Parts count only as long as
    encoder and photographs are those of `key.json`.

    Args:
        out: the file that the parts become.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(f"{out.name}.parts")

    def open(self, key: dict[str, str]) -> str | None:
        """Go on with what is there, or begin anew.

        Args:
            key: what the features depend on; name → digest.

        Returns:
            Why what is there cannot be used, or None.
        """
        file = self.folder / "key.json"
        try:
            before: Any = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = None
        changed = [name for name in key if not isinstance(before, dict) or before.get(name) != key[name]]
        left = any(self.folder.glob("*.parquet"))
        if changed:
            # First what would be taken for ours, then the key.
            for path in self.folder.glob("*.parquet"):
                path.unlink()
            with atomic_file(file) as partial:
                partial.write_text(json.dumps(key, indent=2) + "\n", encoding="utf-8")
        return " and ".join(changed) if changed and left else None

    def done(self) -> int:
        """How many photographs, from the first on, are done; damaged parts and what follows them are removed."""
        end = 0
        for path in sorted(self.folder.glob("*.parquet")):
            found = _NAME.fullmatch(path.name)
            if found and int(found[1]) == end and _rows(path) == int(found[2]) - end:
                end = int(found[2])
            else:
                path.unlink()
        return end

    def write(self, start: int, rows: Rows) -> None:
        """Add a part whose first photograph has the number `start`."""
        with atomic_file(self.folder / f"{start:012d}-{start + len(rows):012d}.parquet") as partial:
            # Features hardly repeat: a dictionary of them would only cost time.
            pq.write_table(rows.table(), partial, use_dictionary=["path"])
            with partial.open("rb") as file:
                os.fsync(file.fileno())  # after a power cut, too, a part that has its name is whole

    def tables(self) -> Iterator[pa.Table]:
        """Every part, in the order of the photographs."""
        for path in sorted(self.folder.glob("*.parquet")):
            yield pq.read_table(path, schema=SCHEMA)

    def skipped(self) -> dict[str, str]:
        """Every photograph that could not be read → why."""
        found: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.parquet")):
            table = pq.read_table(path, columns=["path", "why"])
            table = table.filter(table["why"].is_valid())
            found |= dict(zip(table["path"].to_pylist(), table["why"].to_pylist(), strict=True))
        return found

    def remove(self) -> None:
        """Remove the folder: its parts are in the output."""
        shutil.rmtree(self.folder, ignore_errors=True)


def listing_digest(folder: Path, names: Sequence[str]) -> str:
    """SHA-256 of a folder's photographs: names, sizes and times of change."""
    sha = hashlib.sha256()
    for name in names:
        try:
            stat = (folder / name).stat()
            about = f"{stat.st_size} {stat.st_mtime_ns}"
        except OSError:  # gone since it was listed; told when it is read
            about = "gone"
        sha.update(f"{name}\0{about}\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def _rows(path: Path) -> int:
    """Rows of a part; -1 where it cannot be read."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return -1
