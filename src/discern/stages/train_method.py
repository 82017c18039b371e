"""Stage train_method: a method from scratch, with the budget of the base and what follows it together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from discern.errors import DataError
from discern.methods.build import Setup, build
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.pretrained import initialise, weight_files
from discern.models.weights import save_encoder
from discern.params.links import check_link
from discern.params.model import FloorMethod, LabelledMethod, TrainedMethod
from discern.run.context import Context
from discern.run.fit import Inputs, fit, load_inputs, making, write_curve
from discern.workspace import atomic_dir

TRAINS = True


def run(ctx: Context) -> None:
    """Train one method of one seed."""
    name, base = str(ctx.method), ctx.params.base
    method = ctx.params.described[name]
    check_link(Path("methods"), name, method)
    floor = isinstance(method, FloorMethod)  # those make an encoder of their own
    # SRGAN brings networks of its own: no weights of `base` fit them.
    weights = getattr(method, "weights", base.weights if isinstance(method, TrainedMethod) else "none")
    inputs = load_inputs(ctx, weight_files(base.weights, weights), [base, method])
    if isinstance(method, LabelledMethod):
        inputs = only_labelled(inputs, name)
    train = inputs.train
    encoder = build_encoder(base.encoder, ctx.seed)
    if not floor:
        initialise(encoder, base.weights)
    labels = torch.from_numpy(np.array(train.labels))
    built = build(method, Setup(encoder, len(train.images), ctx.seed, inputs.size, labels, len(train.classes)))

    checkpoint, objective = None, None
    if isinstance(built, ImageEncoder):
        encoder = built
        write_curve(ctx.workspace.curve(name, ctx.seed), [])
    else:
        objective = ContrastiveObjective(built) if isinstance(built, JointEmbedding) else built
        encoder = objective.encoder
        budget = ctx.params.pretrain_decoder.passes + ctx.params.train_encoder.passes
        checkpoint = fit(ctx, name, objective, budget, inputs)
    folder = ctx.workspace.encoder(name, ctx.seed)
    with atomic_dir(folder) as out:
        save_encoder(out, encoder, making(ctx, inputs, name, method.model_dump(), encoder.origin))
        if objective is not None:
            measured = inputs.val if len(inputs.val.images) else train
            ctx.record.metrics(objective.leave(out, measured.images, ctx.device))
    ctx.record.artifact(folder, "encoder")
    if checkpoint is not None:
        checkpoint.discard()


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
