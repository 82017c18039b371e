"""What a registered model does: pictures in; embedding, nearest classes and nearest training images out.

MLflow imports this module by name and gives it the model's folder, so no object is ever unpickled.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from discern.data.decode import UndecodableError, decode
from discern.data.packing import fit
from discern.embedding.features import extract, unit_rows
from discern.errors import DataError
from discern.models.making import read_making
from discern.models.weights import load_encoder
from discern.training.device import resolve_device

BATCH = 128
NEIGHBOURS = 6  # of every picture, where the caller does not say


@dataclass(frozen=True)
class Index:
    """Training images that a picture is compared with.

    Attributes:
        features: (N, D) rows of length 1.
        labels: (N,) class names; empty where the data set has none.
        paths: (N,) names of the images.
    """

    features: torch.Tensor
    labels: npt.NDArray[np.str_]
    paths: npt.NDArray[np.str_]

    @classmethod
    def load(cls, file: Path) -> "Index":
        """Read index.npz; no object arrays, so no pickle."""
        with np.load(file, allow_pickle=False) as arrays:
            return cls(unit_rows(arrays["features"]), arrays["labels"], arrays["paths"])


class Recogniser:
    """One registered model.

    Args:
        folder: what `discern.registry.package` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self.device = resolve_device()
        self.encoder = load_encoder(folder / "encoder").to(self.device)
        self.making = read_making(folder / "encoder")
        self.settings: dict[str, Any] = json.loads((folder / "serving.json").read_text(encoding="utf-8"))
        self.index = Index.load(folder / "index.npz")

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
        squares = np.stack([self._square(row, content) for row, content in enumerate(pictures["image"])])
        features = extract(self.encoder, squares, self.device, BATCH, "fp32")
        similarity = unit_rows(features) @ self.index.features.T  # (M, N)
        answer = pd.DataFrame({"embedding": [row.tolist() for row in features]})
        if len(self.index.labels):
            answer["label"], answer["score"] = zip(*map(self._vote, similarity), strict=True)
        count = min(int((params or {}).get("neighbours", NEIGHBOURS)), similarity.shape[1])
        nearest, rows = similarity.topk(count, dim=1)
        answer["neighbours"] = [self.index.paths[row.numpy()].tolist() for row in rows]
        answer["similarities"] = nearest.tolist()
        return answer

    def _vote(self, similarity: torch.Tensor) -> tuple[str, float]:
        """The class with the largest share of the k nearest's votes, each weighing exp(similarity / T)."""
        best, rows = similarity.topk(min(self.settings["k"], len(similarity)))
        weights = ((best - best[0]) / self.settings["temperature"]).exp()
        shares: dict[str, float] = {}
        for label, weight in zip(self.index.labels[rows.numpy()], (weights / weights.sum()).tolist(), strict=True):
            shares[str(label)] = shares.get(str(label), 0.0) + weight
        winner = max(sorted(shares), key=lambda label: shares[label])
        return winner, shares[winner]

    def _square(self, row: int, content: bytes | str) -> npt.NDArray[np.uint8]:
        try:
            data = base64.b64decode(content, validate=True) if isinstance(content, str) else bytes(content)
            image = decode(data, self.making.max_pixels, draft=2 * self.making.image_size).image
        except (UndecodableError, binascii.Error) as error:
            raise DataError(f"picture {row}: {error}") from error
        square = fit(image, self.making.image_size, self.making.resize, Image.Resampling.LANCZOS)
        return np.asarray(square)


def _load_pyfunc(path: str) -> Recogniser:
    """What MLflow calls."""
    return Recogniser(Path(path))
