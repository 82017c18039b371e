"""Stage train_encoder: L_C + alpha L_R + nu L_Cp, from the base encoder and its pairs."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discern.data.loading import Budget, ImageStore
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
    made = None
    if params.source == "offline":
        made = np.load(pairs / "original.npy", mmap_mode="r"), np.load(pairs / "perturbed.npy", mmap_mode="r")
    train_with_pairs(ctx, "discern", params, synthesizer, made, inputs)


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


def train_with_pairs(
    ctx: Context,
    arm: str,
    params: PairTraining,
    synthesizer: Synthesizer,
    made: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None,
    inputs: Inputs,
) -> None:
    """Train the base's encoder and heads on with pairs, and write the encoder.

    Args:
        ctx: the stage.
        arm: its name.
        params: weights and kind of pairs.
        synthesizer: its decoder is trained on where the parameters say so.
        made: decoded originals (N, R, R, 3) and perturbed versions (N, copies, R, R, 3); None: made online.
        inputs: what decides the result.
    """
    memory, reconstructed = Budget.of(ctx.device), params.pair == "reconstructed"
    if made is None:
        source: PairSource = OnlinePairs(synthesizer, reconstructed, ctx.seed)
    else:
        original, perturbed = made
        copies = perturbed.shape[1]
        store = ImageStore(perturbed.reshape(-1, *perturbed.shape[2:]), ctx.device, memory)
        originals = ImageStore(original, ctx.device, memory) if reconstructed else None
        source = OfflinePairs(store, copies, originals, ctx.seed)
    folder = ctx.workspace.base(ctx.seed)
    method = restore_method(ctx.params, folder, load_encoder(folder), len(inputs.train.images))
    decoder_lr = ctx.params.pretrain_decoder.decoder_lr
    objective = PairObjective(method, synthesizer.decoder, source, params, inputs.size, decoder_lr)
    train_and_save(ctx, arm, objective, inputs, memory)


def train_and_save(
    ctx: Context, arm: str, objective: Objective, inputs: Inputs, memory: Budget | None = None
) -> None:
    """Spend the budget of an arm that goes on from the base, and write its encoder."""
    checkpoint = fit(ctx, arm, objective, ctx.params.train_encoder.passes, inputs, memory)
    folder = ctx.workspace.encoder(arm, ctx.seed)
    with atomic_dir(folder) as out:
        save_encoder(out, objective.encoder, inputs.size)
    ctx.record.artifact(folder, "encoder")
    checkpoint.discard()


if __name__ == "__main__":
    sys.exit(execute("train_encoder", run, trains=True))
