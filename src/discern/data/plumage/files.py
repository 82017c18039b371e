"""`plumage` as the download stage leaves it: encoded pictures in one tar, a listing, and the ground truth."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from discern.data.plumage.drawing import draw
from discern.params.dataset import Plumage

LICENCE = "Apache-2.0 (drawn by this project)"


def write(params: Plumage, folder: Path) -> dict[str, Any]:
    """Draw the data set and write images.tar, listing.parquet, truth.npz and attributes.parquet.

    truth.npz holds `paths` (N,), `shape` (N, S, S), and the masks `parts` and `bird` of that shape, flattened
    and packed by `np.packbits`.

    Args:
        params: what to draw.
        folder: an existing folder.

    Returns:
        What source.json says about it.

    Raises:
        ParamsError: more species are asked for than there are.
    """
    drawn = draw(params)
    labels = np.array(drawn.names)[drawn.labels]
    # Numbered from 1 within each species; the pictures of a species lie together.
    numbers = np.arange(len(labels)) % (params.train_per_species + params.test_per_species) + 1
    paths = [f"{label}/{number:04d}.png" for label, number in zip(labels, numbers, strict=True)]
    with tarfile.open(folder / "images.tar", "w") as tar:
        for path, image in zip(paths, drawn.images, strict=True):
            encoded = io.BytesIO()
            Image.fromarray(image).save(encoded, "PNG", compress_level=6)
            member = tarfile.TarInfo(path)  # time, owner and group are 0
            member.size = encoded.tell()
            encoded.seek(0)
            tar.addfile(member, encoded)
    listing = pd.DataFrame({"path": paths, "label": labels, "split": drawn.split})
    listing.to_parquet(folder / "listing.parquet", index=False)
    drawn.attributes.assign(path=paths).to_parquet(folder / "attributes.parquet", index=False)
    np.savez(
        folder / "truth.npz",
        paths=np.array(paths),
        shape=np.array(drawn.parts.shape),
        parts=np.packbits(drawn.parts),
        bird=np.packbits(drawn.bird),
    )
    return {
        "kind": "plumage",
        "name": "plumage",
        "licence": LICENCE,
        "images": len(paths),
        "classes": len(drawn.names),
        "sha256": None,
        "url": None,
    }
