"""The page's pictures: reconstructions, pairs, heat maps, neighbours and examples, with what they show."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from discern.params.pipeline import OURS, Params
from discern.report import gallery
from discern.report.gallery import SHOWN, Picture, data_uri
from discern.workspace import Workspace


@dataclass(frozen=True)
class Photo:
    """One embedded picture; `tiny` ones are magnified, `right` is None where nothing is judged."""

    uri: str
    name: str
    tiny: bool
    right: bool | None = None


Card = list[Photo]  # pictures that belong together, side by side
RESTORED = ("low", "bicubic", "restored", "original")


@dataclass(frozen=True)
class Restored:
    """Small images that one method enlarged, each beside its original, and how near they come to it."""

    method: str
    cards: list[Card]
    figures: str


def reconstructions(workspace: Workspace, seed: int, count: int) -> list[Card]:
    """Photographs beside what the decoder makes of their features."""
    return _cards(workspace.base(seed) / "reconstructions.npy", ["photo", "reconstruction"], count)


def pairs(workspace: Workspace, seed: int, count: int) -> list[Card]:
    """Photographs, decoded, and decoded after the non-discriminative features were perturbed."""
    return _cards(workspace.pairs(seed) / "examples.npy", ["photo", "decoded", "perturbed"], count)


def super_resolution(workspace: Workspace, methods: list[str], seed: int, count: int) -> list[Restored]:
    """What every method that enlarges images makes of small ones; none where there is no such method."""
    found = []
    for method in methods:
        path = workspace.embeddings(method, seed) / "super_resolution.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as arrays:
                columns = zip(*(arrays[row][:count] for row in RESTORED), strict=True)
                cards = [[_photo(one, name) for one, name in zip(card, RESTORED, strict=True)] for card in columns]
            found.append(Restored(method, cards, _quality(workspace.metrics(method, seed))))
    return found


def _quality(path: Path) -> str:
    """PSNR and SSIM of restored and interpolated images as a sentence; empty where they are not known."""
    figures = json.loads(path.read_text(encoding="utf-8")).get("super_resolution") if path.is_file() else None
    if not figures:
        return ""
    return (
        f"Over all that were scored: PSNR {figures['psnr']:.1f} dB, SSIM {figures['ssim']:.2f}; "
        f"by bicubic interpolation {figures['bicubic_psnr']:.1f} dB and {figures['bicubic_ssim']:.2f}."
    )


def heat_maps(workspace: Workspace, methods: list[str], seed: int, count: int) -> list[Card]:
    """Where the probe of each method looks, over the same test images; the parts that matter are outlined."""
    folders = [workspace.embeddings(method, seed) for method in methods]
    folders = [folder for folder in folders if (folder / "cams.npy").is_file()]
    if not folders:
        return []
    images, index = _packed(workspace, "test")
    parts_file = workspace.packed("test") / "parts.npy"
    parts: NDArray[np.bool_] | None = np.load(parts_file, mmap_mode="r") if parts_file.is_file() else None
    maps = [np.load(folder / "cams.npy") for folder in folders]
    rows: NDArray[np.int64] = np.load(folders[0] / "cams_rows.npy")
    cards = []
    for i in gallery.spread(np.arange(len(rows)), count):
        photo, part = np.asarray(images[rows[i]]), None if parts is None else np.asarray(parts[rows[i]])
        card = [_photo(photo, _label(index, int(rows[i])) or "photo")]
        card += [
            _photo(gallery.overlay(photo, heat[i], part), folder.parent.name)
            for folder, heat in zip(folders, maps, strict=True)
        ]
        cards.append(card)
    return cards


def neighbours(workspace: Workspace, seed: int, queries: int, count: int) -> list[Card]:
    """Test images, each followed by the test images that our encoder finds most like it.

    The query's `right` says whether the nearest has its class, a neighbour's whether it has itself.
    """
    path = workspace.embeddings(OURS, seed) / "outcomes.parquet"
    if not path.is_file():
        return []
    images, index = _packed(workspace, "test")
    outcomes = pd.read_parquet(path)
    cards = []
    for row in gallery.choose_queries(outcomes, queries):
        label = _label(index, row)
        card = [_photo(images[row], label or "query")]
        for other in outcomes["neighbours"].iloc[row][:count]:
            name = _label(index, int(other))
            right = None if label is None or name is None else name == label
            card.append(_photo(images[int(other)], name or "", right))
        cards.append(card)
    return cards


def examples(workspace: Workspace, count: int) -> Card:
    """Training images, one of each class as far as `count` allows."""
    images, index = _packed(workspace, "train")
    return [_photo(images[row], _label(index, row) or "") for row in gallery.one_per_class(index, count)]


def classes(workspace: Workspace) -> list[str]:
    """Names of the classes; none without labels."""
    path = workspace.packed("train").parent / "classes.json"
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []


def pair_grid(params: Params, workspace: Workspace) -> NDArray[np.uint8]:
    """The first seed's example pairs (3, n, S, S, 3)."""
    found: NDArray[np.uint8] = np.load(workspace.pairs(params.methods.seeds[0]) / "examples.npy")
    return found[:, : params.report.examples]


def _photo(picture: Picture, name: str, right: bool | None = None) -> Photo:
    return Photo(data_uri(np.asarray(picture)), name, picture.shape[0] < SHOWN, right)


def _cards(path: Path, names: list[str], count: int) -> list[Card]:
    """Cards from an array (rows, n, H, W, 3), one picture of each row in a card; none without the file."""
    if not path.is_file():
        return []
    stacked: NDArray[np.uint8] = np.load(path)
    return [
        [_photo(picture, name) for picture, name in zip(column, names, strict=True)]
        for column in stacked.swapaxes(0, 1)[:count]
    ]


def _packed(workspace: Workspace, split: str) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    folder = workspace.packed(split)
    return np.load(folder / "images.npy", mmap_mode="r"), pd.read_parquet(folder / "index.parquet")


def _label(index: pd.DataFrame, row: int) -> str | None:
    label = index["label"].iloc[row]
    return None if pd.isna(label) else str(label)
