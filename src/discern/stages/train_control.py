"""Stage train_control: arms that go on from the base and differ from ours in one thing."""

import sys

from discern.data.randomness import seeded
from discern.models.weights import load_encoder
from discern.params.synthesis import Continue, PairControl
from discern.stages.context import Context
from discern.stages.runner import execute
from discern.stages.synthesize_pairs import load_synthesizer, make_pairs
from discern.stages.train_encoder import base_inputs, train_and_save, train_with_pairs
from discern.stages.training import restore_method
from discern.synthesis.basis import load_basis
from discern.synthesis.scoring import control_mask
from discern.training.objectives import ContrastiveObjective


def run(ctx: Context) -> None:
    """Train one control of one seed."""
    arm = str(ctx.arm)
    params = ctx.params.train_control[arm]
    if isinstance(params, Continue):
        train_without_pairs(ctx, arm)
    else:
        train_with_other_dimensions(ctx, arm, params)


def train_without_pairs(ctx: Context, arm: str) -> None:
    """L_C alone, for as many encoder passes as ours gets."""
    inputs = base_inputs(ctx, None, None, [])
    folder = ctx.workspace.base(ctx.seed)
    method = restore_method(ctx.params, folder, load_encoder(folder), len(inputs.train.images))
    train_and_save(ctx, arm, ContrastiveObjective(method), inputs)


def train_with_other_dimensions(ctx: Context, arm: str, params: PairControl) -> None:
    """Our training with pairs that change as many random dimensions, or the discriminative ones."""
    scores = ctx.workspace.scores(ctx.seed) / "basis.safetensors"
    inputs = base_inputs(ctx, params.train_encoder, params.synthesize_pairs, [scores])
    _, mask = load_basis(scores)
    mask = control_mask(mask, params.dims, seeded(ctx.seed, 104))
    synthesizer = load_synthesizer(ctx, params.synthesize_pairs, mask)
    made = None
    if params.train_encoder.source == "offline":
        made = make_pairs(ctx, inputs.train, synthesizer, params.synthesize_pairs.copies)
    train_with_pairs(ctx, arm, params.train_encoder, synthesizer, made, inputs)


if __name__ == "__main__":
    sys.exit(execute("train_control", run, trains=True))
