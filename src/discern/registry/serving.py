"""What a registered model does: pictures in; embedding, nearest classes and nearest training images out.

MLflow imports this module by name and gives it the model's folder, so no object is ever unpickled.
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from discern.embedding.photos import COUNT, PhotoEncoder
from discern.errors import DataError, ModelError

NEIGHBOURS = COUNT  # of every picture, where the caller does not say


class Recogniser:
    """One registered model, as MLflow wants it: tables in, tables out.

    Args:
        folder: what `discern.registry.package` wrote.

    Raises:
        ModelError: it holds no index.
    """

    def __init__(self, folder: Path) -> None:
        self.photos = PhotoEncoder.load(folder)
        if self.photos.gallery is None:
            raise ModelError(f"{folder}: no index.npz; register the encoder anew")
        self.gallery = self.photos.gallery
        self.settings: dict[str, Any] = json.loads((folder / "serving.json").read_text(encoding="utf-8"))

    def predict(self, pictures: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row for each picture.

        Args:
            pictures: column `image`: encoded files (JPEG, PNG, …) as bytes or as base64 text.
            params: `neighbours`: how many training images are named.

        Returns:
            Columns `embedding` (D floats, not normalised), `neighbours` (names), `similarities` (cosines) and,
            where the training images have labels, `label` and `score`: the class with most of the neighbours'
            votes, and its share of them.

        Raises:
            DataError: a picture cannot be read; its row is named.
        """
        contents = [_content(row, image) for row, image in enumerate(pictures["image"])]
        found = list(self.photos.parts(contents))
        for row, why in ((row, why) for part in found for row, why in part.skipped.items()):
            raise DataError(f"picture {row}: {why}")
        features = np.concatenate([part.features for part in found])
        answer = pd.DataFrame({"embedding": [row.tolist() for row in features]})
        if len(self.gallery.labelled):
            votes = self.gallery.classify(features, self.settings["k"], self.settings["temperature"])
            answer["label"], answer["score"] = zip(*votes, strict=True)
        nearest = self.gallery.nearest(features, int((params or {}).get("neighbours", NEIGHBOURS)))
        answer["neighbours"] = [[one.name for one in row] for row in nearest]
        answer["similarities"] = [[one.similarity for one in row] for row in nearest]
        return answer


def _content(row: int, image: bytes | str) -> bytes:
    """The encoded file of a row."""
    try:
        return base64.b64decode(image, validate=True) if isinstance(image, str) else bytes(image)
    except binascii.Error as error:
        raise DataError(f"picture {row}: {error}") from error


def _load_pyfunc(path: str) -> Recogniser:
    """What MLflow calls."""
    return Recogniser(Path(path))
