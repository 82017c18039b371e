"""Features of another encoder, centred, shrunk to their principal components and evened out."""

import torch
from torch import Tensor

from discern.models.build import new_encoder
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.encoder import Corrected

IMAGES_EACH = 4  # training images that a component must have: directions of fewer are chance


class CorrectedEncoder(ImageEncoder):
    """y = diag(s)^-w V^T (f(x) - m).

    m is the mean of the training images' features, V and s their first principal directions and deviations, w the
    whitening. A cosine of features that share a large mean, or a few large directions, tells little of what
    differs. Linear, so that y is still the mean of a feature map.

    Args:
        params: the encoder inside, and how many components are kept; 0: all, V is left out, nothing is whitened.

    Attributes:
        mean: m (D,).
        directions: V diag(s)^-w (D, components); of no column where V is left out.
    """

    encoder: ImageEncoder
    mean: Tensor
    directions: Tensor

    def __init__(self, params: Corrected) -> None:
        super().__init__()
        self.params = params
        self.encoder = new_encoder(params.encoder)
        self.dim = params.components or self.encoder.dim
        self.register_buffer("mean", torch.zeros(self.encoder.dim))
        self.register_buffer("directions", torch.zeros(self.encoder.dim, params.components))

    def feature_map(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to the corrected feature map (N, components or D, H', W')."""
        centred = full(self.encoder.feature_map(x)) - self.mean.view(-1, 1, 1)
        if not self.directions.shape[1]:
            return centred
        y: Tensor = torch.einsum("ndhw,dk->nkhw", centred, self.directions)
        return y


class Correction:
    """Mean, principal directions and deviations of features (N, D); fitted once, for any number of components.

    Attributes:
        mean: (D,).
        directions: (D, D), the largest variance first.
        deviations: (D,).
        most: components that so many images can tell from chance.
    """

    def __init__(self, features: Tensor) -> None:
        wide = features.double()
        mean = wide.mean(0)
        covariance = (wide - mean).T @ (wide - mean) / max(1, len(wide) - 1)
        variances, columns = torch.linalg.eigh(covariance)
        columns = columns.flip(1)
        # The sign of a direction is free: its largest entry is made positive, so that every machine agrees.
        signs = columns.gather(0, columns.abs().argmax(0, keepdim=True)).sign()
        self.mean, self.directions = mean, columns * signs
        self.deviations = variances.flip(0).clamp(min=1e-12).sqrt()
        self.most = min(features.shape[1], len(features) // IMAGES_EACH)

    def matrix(self, components: int, whitening: float) -> Tensor:
        """V diag(s)^-w (D, components), at most `most` of them; (D, 0) where only the mean is taken off."""
        kept = min(components, self.most)
        matrix: Tensor = self.directions[:, :kept] * self.deviations[:kept].pow(-whitening)
        return matrix.float()

    def apply(self, features: Tensor, components: int, whitening: float) -> Tensor:
        """Corrected features (N, components), or (N, D) where only the mean is taken off."""
        matrix = self.matrix(components, whitening)
        centred = features - self.mean.float()
        return centred @ matrix if matrix.shape[1] else centred

    def around(self, encoder: ImageEncoder, components: int, whitening: float) -> CorrectedEncoder:
        """The encoder whose features these are, corrected; it is not copied."""
        matrix = self.matrix(components, whitening)
        description = {"kind": "corrected", "encoder": encoder.params.model_dump(), "components": matrix.shape[1]}
        with torch.device("meta"):
            made = CorrectedEncoder(Corrected.model_validate({**description, "whitening": whitening}))
        device = next(encoder.parameters()).device
        made.encoder, made.mean, made.directions = encoder, self.mean.float().to(device), matrix.to(device)
        return made.train(encoder.training)
