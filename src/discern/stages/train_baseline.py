"""Stage train_baseline: arms from scratch, with the budget of the base and what follows it together."""

import sys

import numpy as np
import torch

from discern.data.packed import PackedSplit
from discern.errors import DataError
from discern.models.encoder import ResNetEncoder, build_encoder
from discern.models.weights import save_encoder
from discern.params.training import RandomInit, Supervised
from discern.ssl import build_method
from discern.stages.context import Context
from discern.stages.runner import execute
from discern.stages.training import Inputs, fit, load_inputs, write_curve
from discern.training.objectives import ContrastiveObjective, Objective, SupervisedObjective
from discern.workspace import atomic_dir


def run(ctx: Context) -> None:
    """Train one baseline of one seed."""
    arm, base = str(ctx.arm), ctx.params.base
    params = ctx.params.train_baseline[arm]
    inputs = load_inputs(ctx, [], [base, params])
    encoder = build_encoder(base.encoder, ctx.seed)
    checkpoint = None
    if isinstance(params, RandomInit):
        write_curve(ctx.workspace.curve(arm, ctx.seed), [])
    else:
        if isinstance(params, Supervised):
            inputs = only_labelled(inputs, arm)
            objective: Objective = supervised(encoder, inputs, params, ctx.seed)
        else:
            objective = ContrastiveObjective(build_method(params, encoder, len(inputs.train.images), ctx.seed))
        checkpoint = fit(
            ctx, arm, objective, ctx.params.pretrain_decoder.passes + ctx.params.train_encoder.passes, inputs
        )
    folder = ctx.workspace.encoder(arm, ctx.seed)
    with atomic_dir(folder) as out:
        save_encoder(out, encoder, base.encoder, inputs.size)
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
    labelled = PackedSplit(
        images=train.images[rows],
        index=train.index.iloc[rows].reset_index(drop=True),
        labels=train.labels[rows],
        classes=train.classes,
        parts=None,
        digest=train.digest,
    )
    return Inputs(labelled, inputs.val, inputs.files, inputs.params)


def supervised(encoder: ResNetEncoder, inputs: Inputs, params: Supervised, seed: int) -> SupervisedObjective:
    """Cross-entropy around the encoder, its linear head initialised by the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        labels = torch.from_numpy(np.asarray(inputs.train.labels))
        return SupervisedObjective(encoder, labels, len(inputs.train.classes), params.label_smoothing)


if __name__ == "__main__":
    sys.exit(execute("train_baseline", run, trains=True))
