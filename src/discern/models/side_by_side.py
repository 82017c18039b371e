"""An encoder before and after training, side by side: what it knew is not lost by what it learned."""

import torch
from torch import Tensor

from discern.models.build import new_encoder
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.encoder import SideBySide


class SideBySideEncoder(ImageEncoder):
    """y = [f_0(x) / ||f_0(x)||, f(x) / ||f(x)||]: a cosine is the mean of both encoders' cosines.

    Args:
        params: of either encoder.

    Attributes:
        start: f_0, with the weights that training started from.
        trained: f.
    """

    def __init__(self, params: SideBySide) -> None:
        super().__init__()
        self.params = params
        self.start, self.trained = new_encoder(params.encoder), new_encoder(params.encoder)
        self.dim = 2 * self.start.dim

    def feature_map(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to both maps (N, 2 D, H', W'), scaled so that their means are y."""
        return torch.cat([_scaled(part.feature_map(x)) for part in (self.start, self.trained)], dim=1)


def _scaled(feature_map: Tensor) -> Tensor:
    wide = full(feature_map)  # (N, D, H', W')
    length = torch.linalg.vector_norm(wide.mean((2, 3)), dim=1).clamp(min=1e-12)
    scaled: Tensor = wide / length.view(-1, 1, 1, 1)
    return scaled


def side_by_side(start: ImageEncoder, trained: ImageEncoder) -> SideBySideEncoder:
    """Both encoders as one; they are of one description, and are not copied."""
    params = SideBySide.model_validate({"kind": "side_by_side", "encoder": trained.params.model_dump()})
    with torch.device("meta"):
        both = SideBySideEncoder(params)
    both.start, both.trained = start, trained
    return both.train(trained.training)
