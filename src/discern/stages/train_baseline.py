"""Stage train_baseline: arms from scratch, with the budget of the base and what follows it together."""

import sys
from dataclasses import replace

import numpy as np
import torch

from discern.arms import Setup, build, registered
from discern.errors import DataError
from discern.models.encoder import ImageEncoder, build_encoder
from discern.models.pretrained import initialise, weight_files
from discern.models.weights import save_encoder
from discern.ssl.base import JointEmbedding
from discern.stages.context import Context
from discern.stages.runner import execute
from discern.stages.training import Inputs, fit, load_inputs, write_curve
from discern.training.objectives import ContrastiveObjective
from discern.workspace import atomic_dir


def run(ctx: Context) -> None:
    """Train one baseline of one seed."""
    arm, base = str(ctx.arm), ctx.params.base
    params = ctx.params.train_baseline[arm]
    files = weight_files(base.weights, getattr(params, "weights", "none"))
    inputs = load_inputs(ctx, files, [base, params])
    role = registered()[params.kind].role
    if role == "supervised":
        inputs = only_labelled(inputs, arm)
    train = inputs.train
    labels = torch.from_numpy(np.array(train.labels))
    encoder = build_encoder(base.encoder, ctx.seed)
    if role != "untrained":  # those make an encoder of their own
        initialise(encoder, base.weights)
    built = build(params, Setup(encoder, len(train.images), ctx.seed, inputs.size, labels, len(train.classes)))

    checkpoint, objective = None, None
    if isinstance(built, ImageEncoder):
        encoder = built
        write_curve(ctx.workspace.curve(arm, ctx.seed), [])
    else:
        objective = ContrastiveObjective(built) if isinstance(built, JointEmbedding) else built
        encoder = objective.encoder
        budget = ctx.params.pretrain_decoder.passes + ctx.params.train_encoder.passes
        checkpoint = fit(ctx, arm, objective, budget, inputs)
    folder = ctx.workspace.encoder(arm, ctx.seed)
    with atomic_dir(folder) as out:
        save_encoder(out, encoder, inputs.size)
        if objective is not None:
            measured = inputs.val if len(inputs.val.images) else train
            ctx.record.metrics(objective.leave(out, measured.images, ctx.device))
    ctx.record.artifact(folder, "encoder")
    if checkpoint is not None:
        checkpoint.discard()


def only_labelled(inputs: Inputs, arm: str) -> Inputs:
    """The training images that have a label.

    Raises:
        DataError: fewer than two classes are labelled.
    """
    train = inputs.train
    known = train.labels >= 0
    if len(np.unique(train.labels[known])) < 2:
        raise DataError(
            f"arms.baselines: '{arm}' learns from labels and the training images have none of two classes;"
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


if __name__ == "__main__":
    sys.exit(execute("train_baseline", run, trains=True))
