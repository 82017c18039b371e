"""What methods that see the labels share."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discern.models.classifier import Classifier, save_classifier
from discern.models.encoder import ImageEncoder
from discern.training.objective import Batch, Objective


class LabelledObjective(Objective):
    """What learns from labels, and leaves its classifier beside the encoder.

    Args:
        encoder: f.
        classifier: on top of it.
        labels: label numbers of all training images (images,).
    """

    labels: Tensor
    passes = 1
    free = False

    def __init__(self, encoder: ImageEncoder, classifier: Classifier, labels: Tensor) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, classifier
        self.register_buffer("labels", labels, persistent=False)

    def wanted(self, batch: Batch) -> Tensor:
        """Labels (N,) of the batch's images."""
        return self.labels[batch.index.to(self.labels.device, non_blocking=True)]

    def leave(self, folder: Path, val_images: npt.NDArray[np.uint8], device: torch.device) -> dict[str, float]:  # noqa: ARG002  # there is nothing to measure
        """Write the classifier."""
        save_classifier(folder, self.classifier)
        return {}
