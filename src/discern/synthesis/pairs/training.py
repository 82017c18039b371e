"""Training with pairs, for ours and for its controls with other dimensions."""

from typing import Any

from discern.images.loading import Budget, ImageStore
from discern.run.context import Context
from discern.run.fit import Inputs
from discern.run.from_base import base_method, train_and_save
from discern.synthesis.pairs.decoding import Synthesizer
from discern.synthesis.pairs.making import Made
from discern.synthesis.pairs.objective import PairObjective
from discern.synthesis.pairs.sources import OfflinePairs, OnlinePairs, PairSource


def train_with_pairs(
    ctx: Context,
    name: str,
    description: dict[str, Any],
    synthesizer: Synthesizer,
    made: Made | None,
    inputs: Inputs,
) -> None:
    """Train the base's encoder and heads on with pairs, and write the encoder.

    Args:
        ctx: the stage.
        name: of the method.
        description: its parameters, kept beside the weights.
        synthesizer: its decoder is trained on where the parameters say so.
        made: the pairs; None: made online.
        inputs: what decides the result.
    """
    params = ctx.params.train_encoder
    memory, reconstructed = Budget.of(ctx.device), params.pair == "reconstructed"
    if made is None:
        source: PairSource = OnlinePairs(synthesizer, reconstructed, ctx.seed)
    else:
        original, perturbed = made
        store = ImageStore(perturbed.reshape(-1, *perturbed.shape[2:]), ctx.device, memory)
        originals = ImageStore(original, ctx.device, memory) if reconstructed else None
        source = OfflinePairs(store, perturbed.shape[1], originals, ctx.seed)
    decoder_lr = ctx.params.pretrain_decoder.decoder_lr
    objective = PairObjective(
        base_method(ctx, inputs), synthesizer.decoder, source, params, inputs.size, decoder_lr
    )
    train_and_save(ctx, name, description, objective, inputs, memory)
