"""What a training step minimises: the contrastive loss alone, with reconstruction, with pairs, or labels."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.data.views import Augment, normalise
from discern.models.classifiers import Classifier, Linear, LinearClassifier, save_classifier
from discern.models.decoder import ImageDecoder
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.synthesis import PairTraining
from discern.ssl.base import JointEmbedding
from discern.training.pair_sources import PairSource, frozen_statistics
from discern.training.schedule import linear_rise


@dataclass(frozen=True)
class Batch:
    """The images of one step, or of a part of it.

    Attributes:
        images: uint8 (N, 3, H, W) on the device.
        index: image numbers (N,), on the CPU: parameters of views are drawn there.
        epoch: decides, with the number, an image's views.
        step: of all `steps`.
        steps: length of the run.
        extra: what `Objective.fetch` loaded, one row for each image.
    """

    images: Tensor
    index: Tensor
    epoch: int
    step: int
    steps: int
    extra: dict[str, Tensor] = field(default_factory=dict)

    def split(self, parts: int) -> "list[Batch]":
        """As many parts of equal size."""
        if parts == 1:
            return [self]
        return [
            replace(
                self,
                images=self.images.chunk(parts)[number],
                index=self.index.chunk(parts)[number],
                extra={name: rows.chunk(parts)[number] for name, rows in self.extra.items()},
            )
            for number in range(parts)
        ]


class Terms(NamedTuple):
    """A step's losses; a tuple, because Fabric looks for tensors inside.

    Attributes:
        loss: the sum that is minimised.
        parts: its unweighted terms by name.
        embedding: normalised embedding (N, d) for the collapse monitor.
    """

    loss: Tensor
    parts: dict[str, Tensor]
    embedding: Tensor


class Objective(nn.Module):
    """One way to train an encoder.

    Attributes:
        encoder: f, what is kept in the end.
        passes: encoder passes per image and step.
        rate: factor of the learning rate.
        encoder_rate: another factor of the encoder's.
        adam_lr: Adam's rate for what `adam` names.
        resident: False where `fetch` reads from a disk.
    """

    encoder: ImageEncoder
    passes: int
    rate = 1.0
    encoder_rate = 1.0
    adam_lr = 1e-4
    resident = True

    @property
    def adam(self) -> nn.Module | None:
        """What Adam trains, at a rate of its own; the optimiser of `base` trains the rest."""
        return None

    def fetch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:  # noqa: ARG002  # most need nothing
        """What else a step on images of these numbers (N,) needs, one row for each; called ahead of the step."""
        return {}

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """The losses of one batch."""
        raise NotImplementedError

    def chance(self, batch_size: int) -> float | None:
        """The loss of knowing nothing, where it is known."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Called once after every optimiser step."""

    def leave(self, folder: Path, val_images: npt.NDArray[np.uint8], device: torch.device) -> dict[str, float]:  # noqa: ARG002  # most leave nothing
        """Write what is kept beside the encoder, at the end of training.

        Args:
            folder: of the encoder.
            val_images: (N, S, S, 3), to measure on; may be empty.
            device: where to compute.

        Returns:
            What was measured, by name.
        """
        return {}


class ContrastiveObjective(Objective):
    """L_C + alpha L_R; with no decoder, L_C alone (the baselines and the control `continue`).

    Args:
        method: L_C.
        decoder: d; not trained when alpha is zero.
        reconstruction_weight: alpha.
        detach: keep the reconstruction loss from the encoder.
        decoder_lr: Adam's rate for the decoder.
    """

    def __init__(
        self,
        method: JointEmbedding,
        decoder: ImageDecoder | None = None,
        reconstruction_weight: float = 0.0,
        detach: bool = False,
        decoder_lr: float = 1e-4,
    ) -> None:
        super().__init__()
        self.method, self.encoder = method, method.encoder
        self.decoder = decoder if reconstruction_weight > 0 else None
        self.passes, self.rate = method.passes, method.rate
        self.reconstruction_weight, self.detach, self.adam_lr = reconstruction_weight, detach, decoder_lr

    @property
    def adam(self) -> nn.Module | None:
        """The decoder."""
        return self.decoder

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """Two views; the first is also reconstructed."""
        return self._contrast(batch, augment)[1]

    def view(self, batch: Batch, augment: Augment, number: int) -> Tensor:
        """The first or the second view (N, 3, size, size) of L_C, number 0 or 1."""
        return augment(batch.images, batch.index, batch.epoch, number)

    def _contrast(self, batch: Batch, augment: Augment) -> tuple[Tensor, Terms]:
        """Features (N, D) of the first view, and the losses."""
        x1, x2 = (self.view(batch, augment, number) for number in (0, 1))
        contrast = self.method(x1, x2)
        parts, loss = {"contrastive": contrast.loss}, contrast.loss
        if self.decoder is not None:
            y = contrast.features.detach() if self.detach else contrast.features
            parts["reconstruction"] = reconstruction_loss(self.decoder, y, x1)
            loss = loss + self.reconstruction_weight * parts["reconstruction"]
        return contrast.features, Terms(loss, parts, contrast.embedding)

    def chance(self, batch_size: int) -> float:
        """Chance level of L_C."""
        return self.method.chance(batch_size)

    def after_step(self) -> None:
        """Momentum encoders and queues."""
        self.method.after_step()


class PairObjective(ContrastiveObjective):
    """L_C + alpha L_R + nu L_Cp: also invariant across each synthesized pair.

    The real view of a `real` pair is the first view of L_C: its features are there already, so that a pair costs
    one encoder pass, of the synthesized image.

    Args:
        method: L_C and L_Cp.
        decoder: d; only trained when alpha is above zero.
        source: where synthesized images come from.
        params: nu, alpha and the kind of pair.
        size: side of a view in pixels.
        decoder_lr: Adam's rate for the decoder.
    """

    def __init__(
        self,
        method: JointEmbedding,
        decoder: ImageDecoder,
        source: PairSource,
        params: PairTraining,
        size: int,
        decoder_lr: float = 1e-4,
    ) -> None:
        super().__init__(method, decoder, params.reconstruction_weight, decoder_lr=decoder_lr)
        self.source, self.params, self.size = source, params, size
        self.resident = source.resident
        # A synthesized image counts as a pass; without the pair loss none is made.
        self.passes += {"real": 1, "reconstructed": 2}[params.pair] if params.pair_weight > 0 else 0

    def fetch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:
        """Synthesized images that were made before, where there are."""
        return self.source.fetch(index, epoch) if self.params.pair_weight > 0 else {}

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """Two views, and a synthesized image for every image."""
        y, terms = self._contrast(batch, augment)
        if self.params.pair_weight == 0:
            return terms
        images = self.source(batch, y.detach())
        with frozen_statistics(self.method, self.params.batch_norm == "separate"):
            anchor = y
            if self.params.pair == "reconstructed":
                assert images.original is not None
                anchor = self.encoder(self._view(images.original, batch, augment, 2))
            target = self.method.target(self._view(images.perturbed, batch, augment, 3))
        pair = self.method.contrast(anchor, target)
        weight = self.params.pair_weight * linear_rise(batch.step, batch.steps, self.params.warmup)
        return Terms(terms.loss + weight * pair, {**terms.parts, "pair": pair}, terms.embedding)

    def _view(self, images: Tensor, batch: Batch, augment: Augment, view: int) -> Tensor:
        """Synthesized images (N, 3, R, R) as normalised views (N, 3, size, size)."""
        if self.params.augment:
            return augment(images, batch.index, batch.epoch, view)
        return F.interpolate(normalise(images), size=self.size, mode="bilinear", antialias=True)


class LabelledObjective(Objective):
    """What learns from labels, and leaves its classifier beside the encoder.

    Args:
        encoder: f.
        classifier: on top of it.
        labels: label numbers of all training images (images,).
    """

    labels: Tensor
    passes = 1

    def __init__(self, encoder: ImageEncoder, classifier: Classifier, labels: Tensor) -> None:
        super().__init__()
        self.encoder, self.classifier = encoder, classifier
        self.register_buffer("labels", labels, persistent=False)

    def wanted(self, batch: Batch) -> Tensor:
        """Labels (N,) of the batch's images."""
        return self.labels[batch.index.to(self.labels.device, non_blocking=True)]

    def leave(self, folder: Path, val_images: npt.NDArray[np.uint8], device: torch.device) -> dict[str, float]:  # noqa: ARG002  # as above
        """Write the classifier."""
        save_classifier(folder, self.classifier)
        return {}


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


def reconstruction_loss(decoder: ImageDecoder, y: Tensor, x: Tensor) -> Tensor:
    """L_R: mean squared error between d(y) and the normalised view x at the decoder's resolution."""
    size = decoder.resolution
    x = full(x)
    target = F.interpolate(x, size=size, mode="bilinear", antialias=True) if x.shape[-1] != size else x
    return F.mse_loss(decoder(y), target)
