"""The floor: an encoder as it comes from its initialisation."""

from discern.methods.build import Setup
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.params.floors import RandomInit


def build(params: RandomInit, setup: Setup) -> ImageEncoder:  # noqa: ARG001  # it has none
    """The encoder itself, with random weights."""
    return build_encoder(setup.encoder.params, setup.seed)
