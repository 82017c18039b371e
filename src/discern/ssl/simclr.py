"""SimCLR: NT-Xent between two views of every image (Chen et al. 2020, arXiv 2002.05709)."""

import math

import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor

from discern.models.encoder import ResNetEncoder
from discern.models.precision import full
from discern.params.training import SimCLR
from discern.ssl.base import Contrast, ContrastiveMethod, register


class SimCLRMethod(ContrastiveMethod):
    """Both views go through one encoder in one forward; each is the other's target.

    Args:
        params: temperature and the projector's sizes.
        encoder: f.
    """

    def __init__(self, params: SimCLR, encoder: ResNetEncoder) -> None:
        super().__init__(encoder)
        self.projector = SimCLRProjectionHead(encoder.dim, params.hidden, params.dim)
        # Gathers embeddings of all processes with their gradient.
        self.loss = NTXentLoss(temperature=params.temperature, gather_distributed=True)

    def target(self, x: Tensor) -> Tensor:
        """Features (N, D) of x, with gradient: the loss is symmetric."""
        features: Tensor = self.encoder(x)
        return features

    def contrast(self, y: Tensor, target: Tensor) -> Tensor:
        """NT-Xent between features y and target, both (N, D)."""
        z = self._project(torch.cat([y, target]))  # (2N, dim), one batch to the projector's BatchNorm
        return self._loss(z)

    def forward(self, x1: Tensor, x2: Tensor) -> Contrast:
        """NT-Xent of two views (N, 3, H, W), in one forward over both."""
        y = self.encoder(torch.cat([x1, x2]).contiguous(memory_format=torch.channels_last))  # (2N, D)
        z = self._project(y)
        n = len(x1)
        return Contrast(self._loss(z), y[:n], F.normalize(z[:n].detach()))

    def chance(self, batch_size: int) -> float:
        """ln(2N - 1): every other embedding is as near as the right one."""
        return math.log(2 * batch_size - 1)

    def _project(self, y: Tensor) -> Tensor:
        return full(self.projector(y))

    def _loss(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            loss: Tensor = self.loss(*z.chunk(2))
        return loss


@register("simclr")
def build(params: SimCLR, encoder: ResNetEncoder, images: int, seed: int) -> SimCLRMethod:  # noqa: ARG001  # registry's signature
    """SimCLR around an encoder."""
    return SimCLRMethod(params, encoder)
