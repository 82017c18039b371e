"""Reading tar and zip archives safely: members are read where they lie, nothing is unpacked to disk.

Archives come from strangers. Absolute names, `..`, links and devices are refused, and so are archives that
grow far beyond their size (decompression bombs).
"""

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol, cast

from discern.errors import ArchiveError

MAX_MEMBER_BYTES = 256 * 2**20
# Photographs hardly compress; drawings may well. Beyond both bounds an archive is taken for a bomb.
MAX_RATIO = 64
ALWAYS_ALLOWED_BYTES = 2**30

_HEADER_BYTES = 2**20
_CHUNK = 2**20
# RecursionError and ValueError: what tarfile makes of chained and of nonsensical extended headers.
_DAMAGE = (
    tarfile.TarError,
    EOFError,
    lzma.LZMAError,
    gzip.BadGzipFile,
    zlib.error,
    RecursionError,
    ValueError,
)
_COMPRESSIONS = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))


class Tree(Protocol):
    """Files under relative names, wherever they lie.

    Attributes:
        sizes: bytes of every file by its name: relative, `/`-separated, undecodable bytes as surrogates.
    """

    sizes: dict[str, int]

    def open(self, name: str) -> BinaryIO:
        """One file's content."""
        ...


@contextmanager
def open_archive(path: Path, scratch: Path) -> Iterator[Tree]:
    """The files in a tar (plain, gz, bz2, xz) or zip.

    Args:
        path: the archive.
        scratch: folder for a nameless temporary file, used by compressed tars only.

    Raises:
        ArchiveError: it is neither, is damaged, or holds members that must not be read.
    """
    try:
        with path.open("rb") as file:
            # By its first bytes: `is_zipfile` also finds a zip that happens to be the last member of a tar.
            start = file.read(2)
            file.seek(0)
            if start == b"PK":
                with zipfile.ZipFile(file) as archive:
                    yield _Zip(path, archive)
            else:
                with _uncompressed(path, file, scratch) as plain:
                    yield _Tar(path, plain)
    except _DAMAGE as error:
        raise ArchiveError(f"{path}: not a tar or zip archive, or damaged: {error}") from error
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ArchiveError(f"{path}: this zip cannot be read: {error}") from error


def forget_members(tar: tarfile.TarFile) -> None:
    """Let go of the members read or written so far; tarfile keeps 1.5 kB for each, for a million images too."""
    tar.members = []  # type: ignore[attr-defined]  # documented nowhere, but the way everybody does it


class _Tar:
    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file
        self._offsets: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        end = file.seek(0, io.SEEK_END)
        file.seek(0)
        # The wrapper only answers what tarfile asks of a file: read, seek and tell.
        with tarfile.open(fileobj=cast(BinaryIO, _SmallReads(file)), mode="r:", encoding="utf-8") as tar:
            while (info := tar.next()) is not None:
                forget_members(tar)
                if info.size < 0:
                    raise ArchiveError(f"{path}: {info.name!r} claims {info.size} bytes; refused")
                if info.isdir():
                    _safe_name(path, info.name)
                elif info.isreg() and not info.issparse():
                    name = _add(path, self.sizes, info.name, info.size)
                    self._offsets[name] = info.offset_data
                    if info.offset_data + info.size > end:
                        raise ArchiveError(f"{path}: cut off inside {info.name!r}; fetch it again")
                else:
                    raise ArchiveError(
                        f"{path}: {info.name!r} is a link or device; only plain files and folders are read"
                    )
            file.seek(tar.offset)
        # tarfile takes a damaged header for the end and would silently lose everything behind it.
        if any(file.read(tarfile.BLOCKSIZE)):
            raise ArchiveError(f"{path}: damaged at byte {tar.offset}; fetch it again")

    def open(self, name: str) -> BinaryIO:
        _check_size(self._path, name, self.sizes[name])
        self._file.seek(self._offsets[name])
        return io.BytesIO(self._file.read(self.sizes[name]))


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self.sizes: dict[str, int] = {}
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                _safe_name(path, info.filename)
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise ArchiveError(
                    f"{path}: {info.filename!r} is a link or device; only plain files and folders are read"
                )
            if info.flag_bits & 1:
                raise ArchiveError(f"{path}: {info.filename!r} is encrypted; pack it without a password")
            # Some Windows programs write backslashes.
            name = _add(path, self.sizes, info.filename.replace("\\", "/"), info.file_size)
            self._infos[name] = info
        if sum(self.sizes.values()) > _allowed_bytes(path):
            raise _bomb(path)

    def open(self, name: str) -> BinaryIO:
        _check_size(self._path, name, self.sizes[name])
        # Not streamed: reading in one go checks the CRC before anything is passed on. zipfile never reads
        # more than the size the directory states, so that size is a bound that holds.
        return io.BytesIO(self._archive.read(self._infos[name]))


class _SmallReads:
    """Refuses the one allocation that a tar header can demand: an extended header of any size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)


@contextmanager
def _uncompressed(path: Path, file: BinaryIO, scratch: Path) -> Iterator[BinaryIO]:
    magic = file.read(6)
    file.seek(0)
    opener = next((opener for start, opener in _COMPRESSIONS if magic.startswith(start)), None)
    if opener is None:
        yield file
        return
    # Members are wanted in the order of their names, and compressed streams cannot be read out of order.
    with tempfile.TemporaryFile(dir=scratch) as plain:
        with opener(file, "rb") as stream:
            _copy_bounded(path, stream, plain)
        plain.seek(0)
        yield plain


def _copy_bounded(path: Path, source: gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile, target: BinaryIO) -> None:
    left = _allowed_bytes(path)
    while chunk := source.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise _bomb(path)
        target.write(chunk)


def _allowed_bytes(path: Path) -> int:
    return max(ALWAYS_ALLOWED_BYTES, MAX_RATIO * path.stat().st_size)


def _bomb(path: Path) -> ArchiveError:
    return ArchiveError(
        f"{path}: unpacks to more than {_allowed_bytes(path)} bytes; refused as a decompression bomb"
    )


def _check_size(path: Path, name: str, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise ArchiveError(f"{path}: {name!r} has {size} bytes; at most {MAX_MEMBER_BYTES} are read")


def _add(path: Path, sizes: dict[str, int], name: str, size: int) -> str:
    name = _safe_name(path, name)
    if name in sizes:
        raise ArchiveError(f"{path}: holds {name!r} twice; which one is meant?")
    sizes[name] = size
    return name


def _safe_name(path: Path, name: str) -> str:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name:
        raise ArchiveError(f"{path}: the member name {name!r} leads out of the archive; refused")
    return str(pure)
