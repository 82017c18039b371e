"""Stage train_continue: the base goes on with L_C alone, for as many encoder passes as ours gets."""

from discern.methods.parts.contrastive import ContrastiveObjective
from discern.params.pipeline import CONTINUE
from discern.run.context import Context
from discern.run.from_base import base_inputs, base_method, train_and_save

TRAINS = True


def run(ctx: Context) -> None:
    """Train the control of one seed."""
    inputs = base_inputs(ctx, [], [])
    description = {"kind": CONTINUE, "loss": ctx.params.loss.model_dump()}
    train_and_save(ctx, CONTINUE, description, ContrastiveObjective(base_method(ctx, inputs)), inputs)
