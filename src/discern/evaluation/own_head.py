"""What the classifier of a method that sees labels says about test, beside the probe on its frozen features."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from discern.embedding.features import Precision, inference, inputs
from discern.evaluation.findings import Findings, Labels, judged
from discern.models.classifier import load_classifier
from discern.models.encoder import ImageEncoder
from discern.params.base import Base
from discern.params.evaluation import Bootstrap

Logits = npt.NDArray[np.float32]


def own_head(
    encoder: ImageEncoder,
    folder: Path,
    images: npt.NDArray[np.uint8],
    device: torch.device,
    batch_size: int,
    precision: Precision,
) -> dict[str, Logits]:
    """Logits of the classifier that training left beside its encoder.

    Args:
        encoder: moved to `device`.
        folder: with classifier.*.
        images: (N, S, S, 3) uint8.
        device: where to compute.
        batch_size: images per forward pass.
        precision: fp32, or bf16 autocast.

    Returns:
        (N, C) by name: `linear`; or PMG's `concatenation`, and `combined`, the sum of all its heads. The last
        is the method's.

    Raises:
        ModelError: a file is missing, damaged or of another architecture.
    """
    encoder, classifier = encoder.to(device), load_classifier(folder).to(device)
    with inference(encoder, device, precision):
        batches = [classifier.scores(encoder, x) for x in inputs(images, device, batch_size)]
    return {name: torch.cat([batch[name].float().cpu() for batch in batches]).numpy() for name in batches[0]}


def head_findings(
    encoder: ImageEncoder,
    folder: Path,
    images: npt.NDArray[np.uint8],
    labels: Labels,
    bootstrap: Bootstrap,
    base: Base,
    device: torch.device,
) -> Findings:
    """The metrics `head` and the outcome `head_correct`; nothing for a method that leaves no classifier.

    Args:
        encoder: the method's.
        folder: that it was read from.
        images: (N, S, S, 3) uint8 of test.
        labels: class numbers (N,), negative where unknown.
        bootstrap: of the interval.
        base: batch size and precision, as in training.
        device: where to compute.
    """
    if not (folder / "classifier.json").exists():
        return Findings()
    known = labels >= 0
    if not known.any():
        return Findings(notes=["the method's own classifier needs a labelled test image: left out"])
    logits = own_head(encoder, folder, images, device, base.batch_size, base.precision)
    predicted = {name: rows.argmax(1) for name, rows in logits.items()}
    found = judged("head", list(predicted.values())[-1], labels, bootstrap)
    if len(predicted) > 1:
        correct = {f"top1_{name}": (rows == labels)[known] for name, rows in predicted.items()}
        found.metrics["head"] |= {name: float(right.mean()) for name, right in correct.items()}
    return found
