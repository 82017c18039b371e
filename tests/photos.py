"""A small encoder and photographs for it, for the tests that use encoders outside the pipeline."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from discern.models.build import build_encoder
from discern.models.making import Making
from discern.models.weights import save_encoder
from tests.methods import ENCODER

SIZE = 16
MAKING = Making(
    SIZE, resize="pad", max_pixels=5000, method="simclr", description={"kind": "simclr", "temperature": 0.3}
)


def save(folder: Path, making: Making = MAKING) -> Path:
    """Write the encoder's folder."""
    save_encoder(folder, build_encoder(ENCODER, seed=0), making)
    return folder


def picture(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """Large random blocks, so that no two are alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST))


def write(path: Path, seed: int) -> Path:
    """Write such a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path)
    return path


def pack(folder: Path, seeds: list[int], label_ids: list[int], size: int = SIZE) -> np.ndarray:
    """Write a packed split of such pictures, and return them."""
    folder.mkdir(parents=True)
    images = np.stack([picture(seed, size, size) for seed in seeds])
    np.save(folder / "images.npy", images)
    labels = {0: "crow", 1: "wren", -1: None}
    index = {"path": [f"{seed}.png" for seed in seeds], "label": [labels[i] for i in label_ids]}
    pd.DataFrame({**index, "label_id": label_ids, "sha256": "0"}).to_parquet(folder / "index.parquet")
    (folder.parent / "classes.json").write_text('["crow", "wren"]')
    return images
