"""The floor without any features: the pixels themselves."""

from torch import Tensor

from discern.images.views import resized
from discern.methods.build import Setup
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.encoder import RawPixels
from discern.params.floors import RawPixelsFloor


class RawPixelEncoder(ImageEncoder):
    """The image itself: resized with antialiasing, normalised, flattened.

    Args:
        params: side of the small image.
    """

    def __init__(self, params: RawPixels) -> None:
        super().__init__()
        self.params, self.side = params, params.side
        self.dim = 3 * params.side**2

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to their pixels (N, 3 side^2), channel by channel."""
        return resized(full(x), self.side).flatten(1)


def build(params: RawPixelsFloor, setup: Setup) -> ImageEncoder:
    """The small image as features; nothing is trained."""
    return build_encoder(params, setup.seed)
