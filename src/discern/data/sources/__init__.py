"""Where photographs come from, each brought to one form: images.tar, listing.parquet and source.json.

images.tar holds the encoded files as found, so that a data set of any size is one file for DVC, and nothing
is lost by decoding before the data gate has looked.
"""

import tarfile
from pathlib import Path
from typing import Any

import pandas as pd

from discern.data.extract import Tree, forget_members, open_archive
from discern.data.progress import progress
from discern.data.sources.archive import locate
from discern.data.sources.folder import FolderTree, resolve
from discern.data.sources.layout import (
    IMAGE_SUFFIXES,
    SPLIT_TABLE,
    Listed,
    arrange,
    is_visible,
    printable,
    quoted,
    wrapping_folder,
)
from discern.errors import DataError
from discern.params.dataset import Archive, Dataset, Folder
from discern.workspace import Workspace

_TABLE_BYTES = 256 * 2**20


def write(dataset: Dataset, workspace: Workspace, folder: Path) -> dict[str, Any]:
    """Bring the data set of params.yaml into `folder`.

    Args:
        dataset: its parameters, of any kind.
        workspace: against which relative paths and the folder of downloads are found.
        folder: an existing folder, for images.tar, listing.parquet and what else the kind knows.

    Returns:
        What source.json says: kind, name, licence, images, classes, sha256, url, and for files from outside
        `ignored`, the number of files that are no images.

    Raises:
        DataError: the source is missing or cannot be read as a data set.
    """
    if isinstance(dataset, Folder):
        path = resolve(dataset.path, workspace)
        _refuse_own_data(path, workspace)
        tree = FolderTree(path)
        found = _collect(str(path), tree, "", folder)
        origin: dict[str, Any] = {"name": printable(path.resolve().name), "sha256": None, "url": None}
    elif isinstance(dataset, Archive):
        path = locate(dataset, workspace)
        with open_archive(path, scratch=folder) as archive:
            found = _collect(str(path), archive, wrapping_folder(archive.sizes), folder)
        name = dataset.url.rpartition("/")[2].partition(".")[0]
        origin = {"name": name, "sha256": dataset.sha256, "url": dataset.url}
    else:
        # Its drawing code is needed by nobody who brings photographs.
        from discern.data import plumage

        return plumage.write(dataset, folder)
    return {"kind": dataset.kind, "licence": dataset.licence, **origin, **found}


def _refuse_own_data(path: Path, workspace: Workspace) -> None:
    """The stage replaces data/raw: photographs kept there would be deleted."""
    own, given = workspace.raw.parent.resolve(), path.resolve()
    if own.is_relative_to(given) or given.is_relative_to(workspace.raw.resolve()):
        raise DataError(f"dataset.path: {path} holds what the pipeline itself writes; move the photographs")


def _collect(source: str, tree: Tree, prefix: str, folder: Path) -> dict[str, int]:
    names = [name.removeprefix(prefix) for name in tree.sizes if is_visible(name)]
    table = _read_table(source, tree, prefix + SPLIT_TABLE)
    images = arrange(source, names, table)
    ignored = len(names) - len(images) - (table is not None)
    if not images:
        known = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
        raise DataError(f"{source}: no images ({known}) among its {len(names)} files")
    _write_tar(tree, prefix, images, folder / "images.tar")
    listing = pd.DataFrame(
        {
            "path": pd.array([printable(image.name) for image in images], dtype="string"),
            "label": pd.array([image.label for image in images], dtype="string"),
            "split": pd.array([image.split for image in images], dtype="string"),
        }
    )
    listing.to_parquet(folder / "listing.parquet", index=False)
    return {"images": len(images), "classes": int(listing["label"].nunique()), "ignored": ignored}


def _read_table(source: str, tree: Tree, name: str) -> bytes | None:
    if name not in tree.sizes:
        return None
    if tree.sizes[name] > _TABLE_BYTES:
        raise DataError(f"{source}/{SPLIT_TABLE}: larger than {_TABLE_BYTES} bytes")
    with tree.open(name) as file:
        return file.read()


def _write_tar(tree: Tree, prefix: str, images: list[Listed], path: Path) -> None:
    """One member after the other, in memory that does not grow; the same files give the same bytes."""
    with (
        tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar,
        progress("collecting images", len(images)) as advance,
    ):
        for image in images:
            info = tarfile.TarInfo(printable(image.name))  # time, owner and group are 0
            info.size = tree.sizes[prefix + image.name]
            with tree.open(prefix + image.name) as file:
                try:
                    tar.addfile(info, file)
                except OSError as error:
                    raise DataError(f"{quoted(image.name)}: cannot be copied: {error}") from error
            forget_members(tar)
            advance(1)
