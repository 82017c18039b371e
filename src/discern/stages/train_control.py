"""Stage train_control: ours with pairs that change other dimensions."""

from discern.images.randomness import Stream, seeded
from discern.run.context import Context
from discern.run.from_base import base_inputs
from discern.synthesis.criteria.basis import load_basis
from discern.synthesis.criteria.scoring import control_mask
from discern.synthesis.pairs.making import load_synthesizer, make_pairs
from discern.synthesis.pairs.training import train_with_pairs

TRAINS = True


def run(ctx: Context) -> None:
    """Train one control of one seed."""
    name = str(ctx.method)
    control, params = ctx.params.train_control[name], ctx.params.train_encoder
    scores = ctx.workspace.scores(ctx.seed) / "basis.safetensors"
    inputs = base_inputs(ctx, [control, params, ctx.params.synthesize_pairs], [scores])
    _, mask = load_basis(scores)
    synthesizer = load_synthesizer(ctx, control_mask(mask, control.dims, seeded(ctx.seed, Stream.CONTROL)))
    made = make_pairs(ctx, inputs.train, synthesizer) if params.source == "offline" else None
    loss = ctx.params.loss.model_dump()
    description = {"kind": "control", **control.model_dump(), **params.model_dump(), "loss": loss}
    train_with_pairs(ctx, name, description, synthesizer, made, inputs)
