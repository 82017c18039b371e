"""SRGAN's networks as they come from their initialisation: the control of `srgan`."""

from discern.methods.build import Setup
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.params.floors import SRGANUntrained


def build(params: SRGANUntrained, setup: Setup) -> ImageEncoder:
    """The weights from which `srgan` of the same seed and size starts."""
    return build_encoder(params.generator if params.features == "generator" else params.discriminator, setup.seed)
