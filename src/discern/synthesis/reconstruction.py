"""L_C + alpha L_R: the base encoder learns with a decoder of its features."""

import torch.nn.functional as F
from torch import Tensor, nn

from discern.images.views import Augment
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.models.decoder import ImageDecoder
from discern.models.precision import full
from discern.training.objective import Batch, Terms


class ReconstructionObjective(ContrastiveObjective):
    """L_C + alpha L_R, L_R of the first view.

    Args:
        method: L_C.
        decoder: d; not trained when alpha is zero.
        reconstruction_weight: alpha.
        detach: keep the reconstruction loss from the encoder.
        decoder_lr: Adam's rate for the decoder.
    """

    def __init__(
        self,
        method: JointEmbedding,
        decoder: ImageDecoder,
        reconstruction_weight: float,
        detach: bool = False,
        decoder_lr: float = 1e-4,
    ) -> None:
        super().__init__(method)
        self.decoder = decoder if reconstruction_weight > 0 else None
        self.reconstruction_weight, self.detach, self.adam_lr = reconstruction_weight, detach, decoder_lr

    @property
    def adam(self) -> nn.Module | None:
        """The decoder."""
        return self.decoder

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """Two views; the first is also reconstructed."""
        return self.reconstructed(batch, augment)[1]

    def reconstructed(self, batch: Batch, augment: Augment) -> tuple[Tensor, Terms]:
        """Features y (N, D) of the first view, and the losses."""
        x1, x2 = (self.view(batch, augment, number) for number in (0, 1))
        contrast = self.method(x1, x2)
        parts, loss = {"contrastive": contrast.loss}, contrast.loss
        if self.decoder is not None:
            y = contrast.features.detach() if self.detach else contrast.features
            parts["reconstruction"] = reconstruction_loss(self.decoder, y, x1)
            loss = loss + self.reconstruction_weight * parts["reconstruction"]
        return contrast.features, Terms(loss, parts, contrast.embedding)


def reconstruction_loss(decoder: ImageDecoder, y: Tensor, x: Tensor) -> Tensor:
    """L_R: mean squared error between d(y) and the normalised view x at the decoder's resolution."""
    size = decoder.resolution
    x = full(x)
    target = F.interpolate(x, size=size, mode="bilinear", antialias=True) if x.shape[-1] != size else x
    return F.mse_loss(decoder(y), target)
