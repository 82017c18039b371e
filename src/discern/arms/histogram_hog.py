"""The floor of hand-made features: colours and edges."""

from typing import TYPE_CHECKING

from discern.arms.registry import Setup, register
from discern.params.encoder import HistogramHOG

if TYPE_CHECKING:
    from discern.models.encoder import ImageEncoder


@register(HistogramHOG, "untrained")
def histogram_hog(params: HistogramHOG, setup: Setup) -> "ImageEncoder":
    """Colour histogram and histogram of oriented gradients; nothing is trained."""
    from discern.models.encoder import build_encoder

    return build_encoder(params, setup.seed)
