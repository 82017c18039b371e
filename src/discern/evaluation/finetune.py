"""Fine-tuning: a copy of the encoder trained on with the training labels, wholly or in its last stage.

A protocol of its own: the encoder is no longer frozen, so its figures are never to be read beside a probe's.
"""

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from discern.embedding.features import extract
from discern.evaluation.findings import Labels
from discern.images.randomness import Stream, seeded
from discern.images.views import Augment
from discern.models.encoder import ImageEncoder
from discern.params.base import Base
from discern.params.evaluation import Finetune
from discern.training.device import autocast

Images = npt.NDArray[np.uint8]
MOMENTUM = 0.9


def predict(
    encoder: ImageEncoder,
    train: tuple[Images, Labels],
    test: Images,
    params: Finetune,
    base: Base,
    device: torch.device,
) -> Labels | None:
    """Train a copy of the encoder with a linear head and name the class of every test image.

    Args:
        encoder: on `device`; left as it is, to the bit.
        train: images (N,S,S,3) uint8 and class ids (N,); rows with a negative id are left out.
        test: (M,S,S,3) uint8.
        params: layers, rates, epochs and seed; `layers` is not none.
        base: views and precision, as in training.
        device: where to compute.

    Returns:
        (M,) class ids, of classes that training shows; None where nothing of the encoder can be trained.
    """
    images, labels = train
    known = np.flatnonzero(labels >= 0)
    classes, targets = np.unique(labels[known], return_inverse=True)
    tuned = copy.deepcopy(encoder)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(params.seed)  # of the head, and of dropout where an encoder has any
        head = nn.Linear(encoder.dim, len(classes)).to(device)
        moving = tuned if params.layers == "all" else last_stage(tuned)
        if moving is None or not free(tuned, moving):
            return None
        fit(tuned, moving, head, images, known, targets, params, base, device)
    features = extract(tuned, test, device, base.batch_size, base.precision)
    with torch.inference_mode():
        best = head(torch.as_tensor(features, device=device)).argmax(dim=1).cpu().numpy()
    return np.asarray(classes[best], dtype=np.int64)


def last_stage(encoder: nn.Module) -> nn.Module | None:
    """What `last_stage` trains: the encoder's own last stage, or of the one that it wraps; else its last child."""
    for module in encoder.modules():
        if isinstance(module, ImageEncoder) and (stage := module.last_stage()) is not None:
            return stage
    children = [child for child in encoder.children() if any(p.numel() for p in child.parameters())]
    return children[-1] if children else None


def free(encoder: nn.Module, moving: nn.Module) -> bool:
    """Let `moving` train and hold everything else; False where there is nothing to train.

    Normalisation in frozen parts keeps its statistics: new ones would change features that are said to be frozen.
    """
    encoder.requires_grad_(False).eval()
    moving.requires_grad_(True).train()
    return any(p.numel() for p in moving.parameters())


def fit(
    encoder: ImageEncoder,
    moving: nn.Module,
    head: nn.Module,
    images: Images,
    rows: npt.NDArray[np.intp],
    targets: npt.NDArray[np.int64],
    params: Finetune,
    base: Base,
    device: torch.device,
) -> None:
    """SGD with momentum on augmented images[rows] and their targets, both rates falling along a cosine."""
    groups: list[dict[str, Any]] = [
        {"params": list(moving.parameters()), "lr": params.lr},
        {"params": list(head.parameters()), "lr": params.head_lr},
    ]
    optimizer = torch.optim.SGD(groups, lr=params.lr, momentum=MOMENTUM, weight_decay=params.weight_decay)
    batch_size = min(params.batch_size, len(rows))
    steps = params.epochs * (len(rows) // batch_size)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    augment = Augment(base.views, images.shape[1], params.seed)
    wanted = torch.as_tensor(targets)
    for epoch, chosen in batches(len(rows), batch_size, params):
        index = torch.as_tensor(rows[chosen.numpy()])
        batch = torch.from_numpy(np.array(images[index.numpy()])).to(device).permute(0, 3, 1, 2)  # (B,3,S,S)
        views = augment(batch, index, epoch, view=0)
        with autocast(device, base.precision):
            features = encoder(views)
        loss = F.cross_entropy(head(features.float()), wanted[chosen].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's, untyped
        optimizer.step()
        rate.step()


def batches(count: int, batch_size: int, params: Finetune) -> Iterator[tuple[int, torch.Tensor]]:
    """(epoch, numbers (B,)) of every step; whole batches only, since normalisation needs more than one image."""
    for epoch in range(params.epochs):
        order = torch.randperm(count, generator=seeded(params.seed, epoch, Stream.FINETUNE_ORDER))
        for start in range(0, count - batch_size + 1, batch_size):
            yield epoch, order[start : start + batch_size]
