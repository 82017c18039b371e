"""What stands beside weights: how they came about and how they want their images. Needs no torch."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from discern.errors import ModelError
from discern.models.origin import NONE, Labels, Origin, read_origin
from discern.params.labelled import Labelled
from discern.params.methods import kinds
from discern.params.model import Resize


@dataclass(frozen=True)
class Making:
    """How an encoder came about and how it wants its images: whoever uses it later needs no parameters.

    Attributes:
        image_size: side in pixels.
        resize: how another aspect ratio becomes square: `pack.resize`.
        max_pixels: photographs with more are not decoded: `validate.max_pixels`.
        method: its name.
        description: the method's parameters.
        weights: what training started from.
    """

    image_size: int
    resize: Resize = "crop"
    max_pixels: int = 50_000_000
    method: str = ""
    description: dict[str, Any] = field(default_factory=dict)
    weights: Origin = field(default_factory=Origin)

    @property
    def labels(self) -> Labels:
        """Whether this encoder's weights saw labels: those given, or those of its own training."""
        content = self.description.get("content")
        perceptual = isinstance(content, dict) and content.get("kind") == "vgg"  # a network of ImageNet's labels
        if perceptual or self.description.get("kind") in kinds(Labelled):
            return "yes"
        return self.weights.labels


def read_making(folder: Path) -> Making:
    """How the encoder of a folder came about.

    Raises:
        ModelError: encoder.json is missing, or of an older version.
    """
    found = read_architecture(folder, "encoder")
    try:
        made = {key: found[key] for key in Making.__dataclass_fields__}
    except KeyError as error:
        raise ModelError(f"{folder / 'encoder.json'}: {error} is missing; `dvc repro` writes it anew") from error
    return Making(**{**made, "weights": read_weights(folder)})


def read_weights(folder: Path) -> Origin:
    """What the training of a folder's encoder started from; random weights where nothing is said.

    Raises:
        ModelError: encoder.json is missing, or says what cannot be.
    """
    try:
        return read_origin(read_architecture(folder, "encoder").get("weights", NONE))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder / 'encoder.json'}: {error}; `dvc repro` writes it anew") from error


def read_architecture(folder: Path, name: str) -> dict[str, Any]:
    """The content of NAME.json.

    Raises:
        ModelError: the file is missing or not JSON.
    """
    path = folder / f"{name}.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: no such file; run `dvc repro` to train it, or `dvc pull` to fetch it"
        ) from error
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}: not valid JSON ({error})") from error
    return content
