"""The ceiling of given weights: an encoder that others trained, frozen."""

from discern.methods.build import Setup
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.pretrained import initialise
from discern.params.floors import Pretrained


def build(params: Pretrained, setup: Setup) -> ImageEncoder:
    """The network of `base` with these weights."""
    encoder = build_encoder(setup.encoder.params, setup.seed)
    initialise(encoder, params.weights)
    return encoder
