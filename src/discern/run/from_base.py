"""Methods that go on from the base encoder: what they start from, and what they leave."""

from pathlib import Path
from typing import Any

from discern.images.loading import Budget
from discern.methods.build import load_two_view
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.models.weights import save_encoder
from discern.params.model import ParamModel
from discern.run.adapt import adapt, finished, given_encoder
from discern.run.context import Context
from discern.run.fit import Inputs, fit, load_inputs, making
from discern.training.objective import Objective
from discern.workspace import atomic_dir


def base_inputs(ctx: Context, params: list[ParamModel], files: list[Path]) -> Inputs:
    """Packed images, and the base's weights, which decide the result too."""
    base = ctx.workspace.base(ctx.seed)
    weights = [base / f"{name}.safetensors" for name in ("encoder", "decoder", "ssl")]
    return load_inputs(ctx, [*weights, *files], [ctx.params.base, ctx.params.loss, *params])


def base_method(ctx: Context, inputs: Inputs) -> JointEmbedding:
    """The base's encoder and heads."""
    adaptation = ctx.params.base.adaptation
    return load_two_view(ctx.params.loss, ctx.workspace.base(ctx.seed), len(inputs.train.images), adaptation)


def train_and_save(
    ctx: Context,
    name: str,
    description: dict[str, Any],
    objective: Objective,
    inputs: Inputs,
    memory: Budget | None = None,
) -> None:
    """Spend the budget of a method that goes on from the base, and write its encoder.

    Args:
        ctx: the stage.
        name: of the method.
        description: its parameters, kept beside the weights.
        objective: trained in place.
        inputs: what decides the result.
        memory: of the device, as far as images may still fill it.
    """
    base = ctx.params.base
    start = None if base.weights == "none" else given_encoder(base, base.weights, ctx.seed)
    trained = adapt(base, objective, start)
    checkpoint = fit(ctx, name, trained, ctx.params.train_encoder.passes, inputs, memory)
    folder = ctx.workspace.encoder(name, ctx.seed)
    with atomic_dir(folder) as out:
        made = making(ctx, inputs, name, description, objective.encoder.origin)
        save_encoder(out, finished(trained, inputs.train.images, base, ctx.device), made)
    ctx.record.artifact(folder, "encoder")
    checkpoint.discard()
