"""Which files are images, and which label and split each has, from their names and an optional split.csv.

Understood are `CLASS/file`, `SPLIT/CLASS/file` and files without folders. Everything below a class's folder
belongs to that class. split.csv (path,label,split) decides for the files it names; a missing column leaves
that question to the folders, an empty cell says that there is no label, or that the split is to be cut.
"""

import csv
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from discern.errors import DataError

SPLIT_TABLE = "split.csv"
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_COLUMNS: tuple[str, ...] = ("label", "split")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Listed:
    """One image of a data set; `label` and `split` are None where nothing says them."""

    name: str
    label: str | None
    split: str | None


def is_visible(name: str) -> bool:
    """Whether a file counts at all: neither hidden nor among what macOS adds to archives."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def printable(name: str) -> str:
    r"""The name as valid UTF-8, never the same for two names: bytes that are not text become `\xNN`."""
    escaped = name.replace("\\", "\\\\")
    return escaped.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def quoted(name: str) -> str:
    """The printable name on one line, for errors."""
    return "'" + printable(name).replace("\n", "\\n").replace("\r", "\\r") + "'"


def wrapping_folder(names: Collection[str]) -> str:
    """The one folder, with its slash, that everything lies in; empty where there is none."""
    tops = {name.partition("/")[0] if "/" in name else "" for name in names if is_visible(name)}
    top = tops.pop() if len(tops) == 1 else ""
    return f"{top}/" if top and top not in _SPLITS else ""


def arrange(source: str, names: Collection[str], table: bytes | None) -> list[Listed]:
    """The images among `names`, in the order of their printable names.

    Args:
        source: what stands in errors.
        names: relative names.
        table: content of split.csv, or None.

    Raises:
        DataError: split.csv is malformed or names what is not there, or the folders are ambiguous.
    """
    rows = {} if table is None else _read_table(f"{source}/{SPLIT_TABLE}", table)
    absent = sorted(rows.keys() - set(names))
    if absent:
        examples = ", ".join(map(quoted, absent[:3]))
        raise DataError(f"{source}/{SPLIT_TABLE}: names {len(absent)} files that are not there: {examples}")
    images = [name for name in names if name in rows or _is_image(name)]
    by_folder = _by_folder(source, images)
    listed = []
    for name in sorted(images, key=printable):
        label, split = by_folder[name]
        row = rows.get(name, {})
        label, split = row.get("label", label), row.get("split", split)
        listed.append(Listed(name, label or None, split or None))
    return listed


def _is_image(name: str) -> bool:
    return is_visible(name) and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _by_folder(source: str, images: list[str]) -> dict[str, tuple[str | None, str | None]]:
    tops = {name.partition("/")[0] for name in images if "/" in name}
    # A class may be called `train` (of vehicles); with a `test` beside it, it hardly is.
    if {"train", "test"} <= tops and not tops <= _SPLITS.keys():
        other = ", ".join(map(quoted, sorted(tops - _SPLITS.keys())[:3]))
        raise DataError(
            f"{source}: has the folders train and test, but also {other}; use train, val and test only, "
            f"or say which is which in {SPLIT_TABLE}"
        )
    are_splits = bool(tops) and tops <= _SPLITS.keys()
    placed: dict[str, tuple[str | None, str | None]] = {}
    for name in images:
        *folders, _ = name.split("/")
        split = _SPLITS[folders.pop(0)] if are_splits and folders else None
        placed[name] = (printable(folders[0]) if folders else None, split)
    return placed


def _read_table(where: str, table: bytes) -> dict[str, dict[str, str]]:
    """By file name: its label and split, as far as the table has these columns."""
    reader = csv.DictReader(io.StringIO(table.decode("utf-8-sig", "surrogateescape"), newline=""), strict=True)
    rows: dict[str, dict[str, str]] = {}
    for cells in _lines(where, reader):
        name = str(PurePosixPath(cells.pop("path")))
        if name in rows:
            raise DataError(f"{where}: line {reader.line_num}: {quoted(name)} stands twice")
        row = {key: cells[key].strip() for key in _COLUMNS if key in cells}
        if row.get("split"):
            if row["split"] not in _SPLITS:
                raise DataError(
                    f"{where}: line {reader.line_num}: split {quoted(row['split'])} is not train, val or test"
                )
            row["split"] = _SPLITS[row["split"]]
        if row.get("label"):
            row["label"] = printable(row["label"])
        rows[name] = row
    return rows


def _lines(where: str, reader: "csv.DictReader[str]") -> Iterator[dict[str, str]]:
    try:
        if "path" not in (reader.fieldnames or ()):
            raise DataError(f"{where}: the first line must name the columns path, label and split")
        for cells in reader:
            if None in cells or None in cells.values():
                raise DataError(f"{where}: line {reader.line_num}: not as many cells as the first line has")
            yield cells
    except csv.Error as error:
        raise DataError(f"{where}: line {reader.line_num}: {error}") from error
