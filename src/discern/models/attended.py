"""An encoder whose feature map is weighed by an attention branch before pooling (LCR)."""

from torch import Tensor, nn

from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.encoder import Attended


class AttendedEncoder(ImageEncoder):
    """Features GAP(F * A): 1x1 filters, batch normalisation, ReLU, their maximum, scaled to [0, 1] for each image.

    Args:
        params: the encoder inside, and the number of filters.
        encoder: f, whose feature map F is weighed.
    """

    def __init__(self, params: Attended, encoder: ImageEncoder) -> None:
        super().__init__()
        self.params, self.dim, self.encoder = params, encoder.dim, encoder
        self.branch = nn.Sequential(
            nn.Conv2d(encoder.dim, params.projections, 1, bias=False),
            nn.BatchNorm2d(params.projections),
            nn.ReLU(),
        )

    def attention(self, feature_map: Tensor) -> Tensor:
        """A (N, H', W') in [0, 1] of a feature map (N, D, H', W')."""
        return per_image(full(self.branch(feature_map)).amax(1))

    def feature_map(self, x: Tensor) -> Tensor:
        """F * A (N, D, H', W') of normalised images (N, 3, H, W)."""
        feature_map = self.encoder.feature_map(x)
        return feature_map * self.attention(feature_map).unsqueeze(1)


def per_image(maps: Tensor) -> Tensor:
    """Maps (N, H', W') scaled to [0, 1], each by its own extremes; an even one becomes 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-6)
