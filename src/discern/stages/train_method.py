"""Stage train_method: a method from scratch, with the budget of the base and what follows it together."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from discern.embedding.features import extract
from discern.errors import DataError
from discern.methods.build import Extracted, Setup, build
from discern.models.encoder import ImageEncoder
from discern.models.pretrained import weight_files
from discern.models.weights import save_encoder
from discern.params.links import check_link
from discern.params.model import FloorMethod, LabelledMethod, TrainedMethod
from discern.run.adapt import adapt, finished, given_encoder
from discern.run.context import Context
from discern.run.fit import Inputs, fit, load_inputs, making, write_curve
from discern.training.adaptation import prepare
from discern.workspace import atomic_dir

TRAINS = True


def run(ctx: Context) -> None:
    """Train one method of one seed."""
    name, base = str(ctx.method), ctx.params.base
    method = ctx.params.described[name]
    check_link(Path("methods"), name, method)
    # SRGAN brings networks of its own: no weights of `base` fit them.
    weights = getattr(method, "weights", "base" if isinstance(method, TrainedMethod) else "none")
    from_base, weights = weights == "base", base.weights if weights == "base" else weights
    inputs = load_inputs(ctx, weight_files(base.weights, weights), [base, method])
    if isinstance(method, LabelledMethod):
        inputs = only_labelled(inputs, name)
    train = inputs.train
    start = given_encoder(base, weights, ctx.seed)
    encoder = copy.deepcopy(start)
    if from_base and not isinstance(method, FloorMethod):
        prepare(encoder, base.adaptation)
    labels = torch.from_numpy(np.array(train.labels))
    setup = Setup(
        encoder, len(train.images), ctx.seed, inputs.size, labels, len(train.classes), extractor(ctx, inputs)
    )
    built = build(method, setup)

    checkpoint, objective = None, None
    if isinstance(built, ImageEncoder):
        encoder = built
        write_curve(ctx.workspace.curve(name, ctx.seed), [])
    else:
        objective = adapt(base, built, start if from_base else None)
        budget = ctx.params.pretrain_decoder.passes + ctx.params.train_encoder.passes
        checkpoint = fit(ctx, name, objective, budget, inputs)
        encoder = finished(objective, train.images, base, ctx.device)
    folder = ctx.workspace.encoder(name, ctx.seed)
    with atomic_dir(folder) as out:
        save_encoder(out, encoder, making(ctx, inputs, name, method.model_dump(), encoder.origin))
        if objective is not None:
            measured = inputs.val if len(inputs.val.images) else train
            ctx.record.metrics(objective.leave(out, measured.images, ctx.device))
    ctx.record.artifact(folder, "encoder")
    if checkpoint is not None:
        checkpoint.discard()


def extractor(ctx: Context, inputs: Inputs) -> Callable[[ImageEncoder, Literal["train", "val"]], Extracted]:
    """Frozen features of a split, by whatever encoder."""

    def features(encoder: ImageEncoder, split: Literal["train", "val"]) -> Extracted:
        images = inputs.train if split == "train" else inputs.val
        base = ctx.params.base
        if not len(images.images):
            return Extracted(np.empty((0, encoder.dim), np.float32), images.labels)
        found = extract(encoder.to(ctx.device), images.images, ctx.device, base.batch_size, base.precision)
        encoder.cpu()
        return Extracted(found, images.labels)

    return features


def only_labelled(inputs: Inputs, name: str) -> Inputs:
    """The training images that have a label.

    Raises:
        DataError: fewer than two classes are labelled.
    """
    train = inputs.train
    known = train.labels >= 0
    if len(np.unique(train.labels[known])) < 2:
        raise DataError(
            f"methods.compared: '{name}' learns from labels and the training images have none of two classes;"
            " take it out of the list"
        )
    if known.all():
        return inputs
    rows = np.flatnonzero(known)
    labelled = replace(
        train,
        images=train.images[rows],
        index=train.index.iloc[rows].reset_index(drop=True),
        labels=train.labels[rows],
        parts=None,
    )
    return replace(inputs, train=labelled)
