"""A directory of photographs."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from discern.data.sources.layout import is_visible, quoted
from discern.errors import DataError
from discern.settings import home
from discern.workspace import Workspace


def resolve(path: str, workspace: Workspace) -> Path:
    """A path of params.yaml: absolute, or relative to the project.

    Temporary experiments (`dvc exp run --temp`) work in a copy without what git ignores, photographs among
    it, and elsewhere, so that a path out of the project leads astray; the main checkout is asked then.
    """
    given = Path(path).expanduser()
    here = workspace.root / given
    return here if here.exists() else home() / given


class FolderTree:
    """The visible files below a directory.

    Links are followed, since large data sets often are folders of links. Sockets, pipes and devices are left
    out: opening one could wait for ever.

    Attributes:
        sizes: bytes of every file by its name relative to the directory.

    Raises:
        DataError: the directory is missing, is a file, cannot be read, or holds a link that leads nowhere or
            back into itself.
    """

    def __init__(self, root: Path) -> None:
        if not root.exists():
            raise DataError(f"dataset.path: {root}: no such folder")
        if not root.is_dir():
            raise DataError(f"dataset.path: {root} is a file; for a tar or zip use dataset.kind: archive")
        self._root = root
        self.sizes = dict(_walk(root, "", ()))

    def open(self, name: str) -> BinaryIO:
        """One file's content."""
        try:
            return (self._root / name).open("rb")
        except OSError as error:
            raise DataError(f"dataset.path: {quoted(name)}: {error.strerror}") from error


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, int]]:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in above:
            raise DataError(f"dataset.path: {quoted(prefix)} is a link to a folder above it")
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            name = prefix + entry.name
            if not is_visible(name):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{name}/", (*above, (status.st_dev, status.st_ino)))
            elif entry.is_file():
                yield name, entry.stat().st_size
            elif entry.is_symlink():
                raise DataError(f"dataset.path: {quoted(name)} is a link that leads nowhere")
    except OSError as error:
        raise DataError(f"dataset.path: {quoted(prefix or str(folder))}: {error.strerror}") from error
