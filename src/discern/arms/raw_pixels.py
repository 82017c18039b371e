"""The floor without any features: the pixels themselves."""

from typing import TYPE_CHECKING

from discern.arms.registry import Setup, register
from discern.params.encoder import RawPixels

if TYPE_CHECKING:
    from discern.models.encoder import ImageEncoder


@register(RawPixels, "untrained")
def raw_pixels(params: RawPixels, setup: Setup) -> "ImageEncoder":
    """The small image as features; nothing is trained."""
    from discern.models.encoder import build_encoder

    return build_encoder(params, setup.seed)
