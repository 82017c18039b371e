"""Stages of dvc.yaml and dvc.lock, and parameters, as DVC reads them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def mapping(text: str | None) -> dict[str, Any]:
    """A YAML text as DVC reads it (YAML 1.2); empty where there is none."""
    return dict(YAML(typ="safe", pure=True).load(text) or {}) if text else {}


def stages(path: Path) -> dict[str, Any]:
    """The stages of a dvc.yaml or dvc.lock; empty where there is none."""
    return dict(mapping(path.read_text(encoding="utf-8") if path.is_file() else None).get("stages", {}))


def outs(locked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Path and checksum of every output in the stages of a dvc.lock."""
    for entry in locked.values():
        for out in entry.get("outs", []):
            yield str(out["path"]), str(out.get("md5", out.get("hash", "")))


def within(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it."""
    return path == folder or path.startswith(f"{folder}/")


def overlap(path: str, other: str) -> bool:
    """Whether one path is, or lies in, the other."""
    return within(path, other) or within(other, path)
