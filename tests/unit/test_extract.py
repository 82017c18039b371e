import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from discern.data import extract
from discern.data.extract import open_archive
from discern.errors import ArchiveError

FILES = {"a/1.jpg": b"one", "a/2.jpg": b"", "b/ü\n葉.jpg": b"three" * 1000}


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # the mode is a variable
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def read_all(path: Path, scratch: Path) -> dict[str, bytes]:
    with open_archive(path, scratch) as tree:
        return {name: tree.open(name).read() for name in sorted(tree.sizes, reverse=True)}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_of_any_compression_gives_its_files_in_any_order(tmp_path: Path, mode: str) -> None:
    assert read_all(make_tar(tmp_path / "x", FILES, mode), tmp_path) == FILES
    assert [p.name for p in tmp_path.iterdir()] == ["x"]  # nothing was unpacked


def test_a_zip_gives_its_files(tmp_path: Path) -> None:
    assert read_all(make_zip(tmp_path / "x.zip", FILES), tmp_path) == FILES


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", {"inside.jpg": b"x"}).read_bytes()
    path = make_tar(tmp_path / "x.tar", {"inner.zip": inner})
    assert read_all(path, tmp_path) == {"inner.zip": inner}


def test_backslashes_of_windows_zips_are_folders(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "x.zip", {"cats\\1.jpg": b"x"})
    assert read_all(path, tmp_path) == {"cats/1.jpg": b"x"}


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.jpg", "a/../../up.jpg"])
@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_names_that_lead_out_are_refused(
    tmp_path: Path, make: Callable[[Path, dict[str, bytes]], Path], name: str
) -> None:
    with pytest.raises(ArchiveError, match="leads out of the archive"):
        read_all(make(tmp_path / "x", {"a.jpg": b"x", name: b"x"}), tmp_path)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_in_tars_are_refused(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("evil.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(ArchiveError, match=r"'evil\.jpg' is a link or device"):
        read_all(path, tmp_path)


def test_links_in_zips_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("evil.jpg")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveError, match="is a link or device"):
        read_all(path, tmp_path)


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a/1.jpg", "./a/1.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(ArchiveError, match="twice"):
        read_all(path, tmp_path)


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "ALWAYS_ALLOWED_BYTES", 100_000)
    zeros = {"bomb.jpg": bytes(20_000_000)}
    for path in (make_tar(tmp_path / "x.tar.gz", zeros, "w:gz"), make_zip(tmp_path / "x.zip", zeros)):
        with pytest.raises(ArchiveError, match="decompression bomb"):
            read_all(path, tmp_path)


def test_a_member_above_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "MAX_MEMBER_BYTES", 10)
    for path in (make_tar(tmp_path / "x.tar", {"a": bytes(11)}), make_zip(tmp_path / "x.zip", {"a": bytes(11)})):
        with pytest.raises(ArchiveError, match="has 11 bytes; at most 10"):
            read_all(path, tmp_path)


def test_a_header_that_demands_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.XHDTYPE, 2**33
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(ArchiveError, match="header of 8589934592 bytes"):
        read_all(tmp_path / "x.tar", tmp_path)


def test_a_damaged_header_loses_nothing_silently(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", {"1.jpg": b"x", "2.jpg": b"y", "3.jpg": b"z"})
    content = bytearray(path.read_bytes())
    content[1024 + 148] ^= 0xFF  # the checksum of the second header
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="damaged at byte 1024"):
        read_all(path, tmp_path)


def test_a_tar_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "x.tar", {"1.jpg": bytes(5000)})
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(ArchiveError, match=r"cut off|unexpected end"):
        read_all(path, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive at all",
        gzip.compress(b"text", mtime=0),
        bz2.compress(b"text"),
        lzma.compress(b"text")[:-9],
        b"PK\3\4",
    ],
    ids=["empty", "text", "gzip", "bzip2", "xz cut off", "zip header"],
)
def test_what_is_no_archive_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"not a tar or zip|cannot be read") as caught:
        read_all(tmp_path / "x", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_zip_whose_content_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jpg", b"content")
    path.write_bytes(path.read_bytes().replace(b"content", b"c0ntent"))
    with pytest.raises(ArchiveError, match="CRC"):
        read_all(path, tmp_path)
