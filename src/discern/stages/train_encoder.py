"""Stage train_encoder: L_C + alpha L_R + nu L_Cp, from the base encoder and its pairs."""

import sys
from pathlib import Path

import numpy as np

from discern.models.weights import load_encoder, save_encoder
from discern.params.model import ParamModel
from discern.params.synthesis import PairTraining, SynthesizePairs
from discern.stages.context import Context
from discern.stages.runner import execute
from discern.stages.synthesize_pairs import load_synthesizer
from discern.stages.training import Inputs, fit, load_inputs, restore_method
from discern.synthesis.pairs import Synthesizer
from discern.training.objectives import Objective, PairObjective
from discern.training.pair_sources import OfflinePairs, OnlinePairs, PairSource
from discern.workspace import atomic_dir


def run(ctx: Context) -> None:
    """Train our encoder of one seed."""
    params, pairs = ctx.params.train_encoder, ctx.workspace.pairs(ctx.seed)
    files = [pairs / "perturbed.npy", ctx.workspace.scores(ctx.seed) / "basis.safetensors"]
    inputs = base_inputs(ctx, params, ctx.params.synthesize_pairs, files)
    synthesizer = load_synthesizer(ctx, ctx.params.synthesize_pairs)
    if params.source == "offline":
        original, perturbed = (np.load(pairs / f"{name}.npy", mmap_mode="r") for name in ("original", "perturbed"))
        source: PairSource = OfflinePairs(original, perturbed, ctx.seed, ctx.device)
    else:
        source = OnlinePairs(synthesizer, ctx.seed)
    train_and_save(ctx, "discern", pair_objective(ctx, params, synthesizer, source, inputs), inputs)


def base_inputs(
    ctx: Context, params: PairTraining | None, made: SynthesizePairs | None, files: list[Path]
) -> Inputs:
    """Packed images, and the base's weights, which decide the result too."""
    base = ctx.workspace.base(ctx.seed)
    weights = [base / f"{name}.safetensors" for name in ("encoder", "decoder", "ssl")]
    known: list[ParamModel] = [
        p for p in (ctx.params.base, ctx.params.pretrain_decoder.loss, params, made) if p is not None
    ]
    return load_inputs(ctx, [*weights, *files], known)


def pair_objective(
    ctx: Context, params: PairTraining, synthesizer: Synthesizer, source: PairSource, inputs: Inputs
) -> PairObjective:
    """The base's encoder and heads, to be trained on with pairs from `source`."""
    folder = ctx.workspace.base(ctx.seed)
    method = restore_method(ctx.params, folder, load_encoder(folder), len(inputs.train.images))
    return PairObjective(method, synthesizer.decoder, source, params, inputs.size)


def train_and_save(ctx: Context, arm: str, objective: Objective, inputs: Inputs) -> None:
    """Spend the budget of an arm that goes on from the base, and write its encoder."""
    checkpoint = fit(
        ctx, arm, objective, ctx.params.train_encoder.passes, inputs, ctx.params.pretrain_decoder.decoder_lr
    )
    folder = ctx.workspace.encoder(arm, ctx.seed)
    with atomic_dir(folder) as out:
        save_encoder(out, objective.encoder, ctx.params.base.encoder, inputs.size)
    ctx.record.artifact(folder, "encoder")
    checkpoint.discard()


if __name__ == "__main__":
    sys.exit(execute("train_encoder", run))
