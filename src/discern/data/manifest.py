"""The manifest: one row for every file of images.tar, with what was found when it was read and decoded."""

import hashlib
import os
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from discern.data.decode import UndecodableError, decode
from discern.data.extract import MAX_MEMBER_BYTES, forget_members
from discern.data.progress import map_in_threads
from discern.errors import DataError

_CHUNK = 2**20


@dataclass(frozen=True)
class Inspected:
    """What one file is.

    Attributes:
        sha256: of the encoded file.
        width: in pixels, as displayed; 0 where it could not be decoded.
        height: likewise.
        mode: Pillow's name of the stored pixels.
        format: Pillow's name of the file format.
        reason: why it cannot be used; None for a good file.
    """

    sha256: str
    width: int
    height: int
    mode: str
    format: str
    reason: str | None


class ImageTar:
    """The encoded files of images.tar, read by byte range from any number of threads.

    Args:
        path: an uncompressed tar.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")

    def __enter__(self) -> "ImageTar":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def read(self, offset: int, size: int) -> bytes:
        """The bytes of one file; reading moves no shared position."""
        return os.pread(self._file.fileno(), size, offset)

    def sha256(self, offset: int, size: int) -> str:
        """Checksum of one file of any size."""
        digest = hashlib.sha256()
        for start in range(offset, offset + size, _CHUNK):
            digest.update(self.read(start, min(_CHUNK, offset + size - start)))
        return digest.hexdigest()


def byte_ranges(path: Path) -> pd.DataFrame:
    """Where each file of an uncompressed tar lies: columns path, offset and size (bytes)."""
    rows = []
    with tarfile.open(path, "r:") as tar:
        while (info := tar.next()) is not None:
            rows.append((info.name, info.offset_data, info.size))
            forget_members(tar)
    return pd.DataFrame(rows, columns=["path", "offset", "size"])


def build(images_tar: Path, listing: pd.DataFrame, max_pixels: int) -> pd.DataFrame:
    """Read and decode every file.

    Args:
        images_tar: what download wrote.
        listing: columns path, label, split.
        max_pixels: larger pictures are not decoded.

    Returns:
        The listing's columns and order, and offset, size, bytes, those of `Inspected`, and decodable.

    Raises:
        DataError: the listing and the tar do not hold the same files.
    """
    ranges = byte_ranges(images_tar)
    files = listing.merge(ranges, on="path", how="left", validate="one_to_one")
    if len(ranges) != len(listing) or files["offset"].isna().any():
        raise DataError(f"{images_tar.parent}: images.tar and listing.parquet differ; dvc repro -f download")
    files = files.astype({"offset": "int64", "size": "int64"})
    with ImageTar(images_tar) as tar:
        inspected = map_in_threads(
            lambda where: _inspect(tar, *where, max_pixels),
            zip(files["offset"].tolist(), files["size"].tolist(), strict=True),
            "checking images",
            len(files),
        )
        found = pd.DataFrame([asdict(one) for one in inspected])
    files = pd.concat([files, found.astype({"reason": "object"})], axis=1)
    files["bytes"] = files["size"]
    files["decodable"] = files["reason"].isna()
    return files


def _inspect(tar: ImageTar, offset: int, size: int, max_pixels: int) -> Inspected:
    sha256 = tar.sha256(offset, size)
    try:
        if size > MAX_MEMBER_BYTES:
            raise UndecodableError(f"the file has {size} bytes; at most {MAX_MEMBER_BYTES} are read")
        decoded = decode(tar.read(offset, size), max_pixels)
    except UndecodableError as error:
        return Inspected(sha256, 0, 0, "", "", str(error))
    width, height = decoded.image.size
    return Inspected(sha256, width, height, decoded.mode, decoded.format, None)
