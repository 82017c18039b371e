"""Classifiers that training with labels ends with, kept beside their encoder: logits of its images."""

from pathlib import Path

from pydantic import ValidationError
from torch import Tensor, nn

from discern.errors import ModelError
from discern.models.build import network
from discern.models.encoder import ImageEncoder
from discern.models.making import read_architecture
from discern.models.weights import load_module, save_module
from discern.params.classifier import CLASSIFIER, Granular, Linear


class Classifier(nn.Module):
    """What tells the classes apart.

    Attributes:
        params: the description that it is made from.
    """

    params: Linear | Granular

    def scores(self, encoder: ImageEncoder, x: Tensor) -> dict[str, Tensor]:
        """Logits (N, C) of normalised images (N, 3, H, W), by name where there are several; the last counts."""
        raise NotImplementedError


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write classifier.safetensors and classifier.json."""
    save_module(folder, "classifier", classifier, classifier.params.model_dump())


def load_classifier(folder: Path) -> Classifier:
    """The classifier of a folder that `save_classifier` wrote, in eval mode on the CPU.

    Raises:
        ModelError: a file is missing, damaged or does not fit the description beside it.
    """
    try:
        params = CLASSIFIER.validate_python(read_architecture(folder, "classifier"))
    except ValidationError as error:
        raise ModelError(f"{folder / 'classifier.json'}: not a classifier's description: {error}") from error
    classifier = network(params)
    assert isinstance(classifier, Classifier), "the union describes nothing else"
    load_module(folder, "classifier", classifier)
    return classifier.eval()
