"""Stage train_encoder: L_C + alpha L_R + nu L_Cp, from the base encoder and its pairs: ours."""

import numpy as np

from discern.params.pipeline import OURS
from discern.run.context import Context
from discern.run.from_base import base_inputs
from discern.synthesis.pairs.making import load_synthesizer
from discern.synthesis.pairs.training import train_with_pairs

TRAINS = True


def run(ctx: Context) -> None:
    """Train our encoder of one seed."""
    params, pairs = ctx.params.train_encoder, ctx.workspace.pairs(ctx.seed)
    files = [pairs / "perturbed.npy", ctx.workspace.scores(ctx.seed) / "basis.safetensors"]
    inputs = base_inputs(ctx, [params, ctx.params.synthesize_pairs], files)
    made = None
    if params.source == "offline":
        made = np.load(pairs / "original.npy", mmap_mode="r"), np.load(pairs / "perturbed.npy", mmap_mode="r")
    description = {"kind": OURS, **params.model_dump(), "loss": ctx.params.loss.model_dump()}
    train_with_pairs(ctx, OURS, description, load_synthesizer(ctx), made, inputs)
