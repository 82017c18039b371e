"""Pictures for the page and for Prefect: grids, heat-map overlays, and which test images to show."""

import base64
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation

from discern.images.packed import evenly_spread

Picture = NDArray[np.uint8]  # (H, W, 3)

SHOWN = 128  # side of a picture on the page in CSS pixels; small images are magnified by a whole factor
MAX_SIDE = 2 * SHOWN  # of an embedded picture: sharp on dense screens, and the page stays small
COLOUR_MAP = "inferno"
OPACITY = 0.72  # of the hottest spot; the coldest leaves the photograph untouched


def data_uri(picture: Picture) -> str:
    """The picture as an address that carries its own bytes.

    JPEG without colour subsampling: the parts that tell species apart are a few coloured pixels.
    """
    image = Image.fromarray(picture)
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def overlay(photo: Picture, heat: NDArray[np.uint8], part: NDArray[np.bool_] | None = None) -> Picture:
    """A heat map over its photograph.

    Args:
        photo: (H, W, 3).
        heat: (h, w) from 0 (cold) to 255; scaled to the photograph.
        part: (H, W) true where the parts are that tell classes apart; drawn as an outline.

    Returns:
        The picture, magnified by a whole factor towards `MAX_SIDE` so that the outline is fine.
    """
    factor = max(1, MAX_SIDE // photo.shape[0])
    large = photo.repeat(factor, 0).repeat(factor, 1).astype(np.float64)
    height, width = large.shape[:2]
    smooth = Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR)
    warmth = np.asarray(smooth, np.float64) / 255  # (H, W)
    colours = mpl.colormaps[COLOUR_MAP](warmth)[..., :3] * 255
    alpha = OPACITY * warmth[..., None]
    picture = large * (1 - alpha) + colours * alpha
    if part is not None and part.any():
        inside = part.repeat(factor, 0).repeat(factor, 1)
        rim = binary_dilation(inside, iterations=2) & ~inside
        halo = binary_dilation(rim, iterations=2) & ~rim & ~inside
        picture[halo] *= 0.55  # keeps the outline apart from a bright background
        picture[rim] = 255
    return picture.round().astype(np.uint8)


def grid(columns: NDArray[np.uint8], path: Path) -> None:
    """Save pictures side by side, e.g. photograph, decoded and perturbed from top to bottom.

    Args:
        columns: (rows, n, H, W, 3).
        path: PNG to write.
    """
    rows, n, height, width, _ = columns.shape
    factor = max(1, -(-SHOWN // height))
    gap = 4
    sheet = np.full((rows * (height * factor + gap) - gap, n * (width * factor + gap) - gap, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(n):
            top, left = row * (height * factor + gap), column * (width * factor + gap)
            large = columns[row, column].repeat(factor, 0).repeat(factor, 1)
            sheet[top : top + height * factor, left : left + width * factor] = large
    Image.fromarray(sheet).save(path, "PNG", optimize=True)


def spread(candidates: NDArray[np.intp], count: int) -> list[int]:
    """At most `count` of the candidates, evenly spread over them."""
    return [int(candidates[i]) for i in evenly_spread(len(candidates), count)]


def choose_queries(outcomes: pd.DataFrame, count: int) -> list[int]:
    """Rows of test images to show with their neighbours: half of them right, half wrong where there are any."""
    if "rank1_correct" not in outcomes or outcomes["rank1_correct"].isna().all():
        return spread(np.arange(len(outcomes)), count)
    right = outcomes["rank1_correct"].to_numpy(np.float64, na_value=np.nan)
    wrong_rows = spread(np.flatnonzero(right == 0), count // 2)
    return [*spread(np.flatnonzero(right == 1), count - len(wrong_rows)), *wrong_rows]


def one_per_class(index: pd.DataFrame, count: int) -> list[int]:
    """Rows that show every class once, as far as `count` allows; evenly spread where there are no labels."""
    if index["label"].isna().all():
        return spread(np.arange(len(index)), count)
    first = index["label"].dropna().drop_duplicates().sort_values()
    return spread(first.index.to_numpy(np.intp), count)
