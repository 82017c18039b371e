"""The reference that sees the labels: cross-entropy."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from discern.images.views import Augment
from discern.methods.build import Setup
from discern.methods.parts.labelled import LabelledObjective
from discern.models.classifier import Classifier
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.classifier import Linear
from discern.params.labelled import Supervised
from discern.training.objective import Batch, Terms


class LinearClassifier(Classifier, nn.Linear):
    """A linear layer on pooled features (N, D)."""

    def __init__(self, params: Linear) -> None:
        super().__init__(params.dim, params.classes)
        self.params = params

    def scores(self, encoder: ImageEncoder, x: Tensor) -> dict[str, Tensor]:
        """The layer's logits as `linear`."""
        return {"linear": full(self(encoder(x)))}


class SupervisedObjective(LabelledObjective):
    """Cross-entropy on one view: the reference that sees the labels.

    Args:
        encoder: f.
        labels: label numbers of all training images (images,).
        classes: number of classes.
        label_smoothing: as in torch's cross-entropy.
    """

    classifier: LinearClassifier

    def __init__(self, encoder: ImageEncoder, labels: Tensor, classes: int, label_smoothing: float) -> None:
        head = LinearClassifier(Linear(kind="linear", dim=encoder.dim, classes=classes))
        super().__init__(encoder, head, labels)
        self.classes, self.label_smoothing = classes, label_smoothing

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """One view of every image."""
        y = self.encoder(augment(batch.images, batch.index, batch.epoch, 0))
        logits = full(self.classifier(y))
        loss = F.cross_entropy(logits, self.wanted(batch), label_smoothing=self.label_smoothing)
        return Terms(loss, {"cross_entropy": loss}, F.normalize(y.detach()))

    def chance(self, batch_size: int) -> float:  # noqa: ARG002  # the classes, not the batch, decide
        """ln(classes)."""
        return math.log(self.classes)


def build(params: Supervised, setup: Setup) -> SupervisedObjective:
    """A linear head on the encoder; at chance it knows nothing of the classes: ln(classes)."""
    assert setup.labels is not None
    return SupervisedObjective(setup.encoder, setup.labels, setup.classes, params.label_smoothing)
