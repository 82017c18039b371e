"""DVC's cache, read whole: which of its files no longer are what their names say."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from discern.dvcfiles.read import outs, stages


def cache_folder(root: Path) -> Path:
    """Where DVC keeps the files of a checkout."""
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return Path(done.stdout.strip()) if done.returncode == 0 else root / ".dvc" / "cache"


def rotten(root: Path, folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Files of the cache whose content has another checksum, each with the outputs of this checkout that it holds.

    Args:
        root: the checkout, whose dvc.lock says which outputs there are.
        folder: the cache.
    """
    outputs = None
    for path in sorted((folder / "files" / "md5").glob("??/*")):
        digest = path.parent.name + path.name
        with path.open("rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != digest.removesuffix(".dir"):
            outputs = _outputs(root, folder) if outputs is None else outputs
            yield path, outputs.get(digest, [])


def _outputs(root: Path, folder: Path) -> dict[str, list[str]]:
    """Checksum → paths of outputs, single files of folders included."""
    paths: dict[str, list[str]] = {}
    for path, digest in outs(stages(root / "dvc.lock")):
        paths.setdefault(digest, []).append(path)
        listing = folder / "files" / "md5" / digest[:2] / digest[2:]
        for entry in _entries(listing) if digest.endswith(".dir") else []:
            paths.setdefault(entry["md5"], []).append(f"{path}/{entry['relpath']}")
    return paths


def _entries(listing: Path) -> list[dict[str, str]]:
    try:
        return list(json.loads(listing.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # not fetched, or damaged itself
        return []
