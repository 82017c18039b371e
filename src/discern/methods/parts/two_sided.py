"""Losses that see both views alike: SimCLR, Barlow Twins, VICReg."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor, nn

from discern.methods.parts.joint_embedding import Contrast, JointEmbedding
from discern.models.collectives import gather
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.two_view import Contrastive


class TwoSided(JointEmbedding):
    """Both views go through one encoder and one projector in one forward; each is the other's target.

    Args:
        encoder: f.
        projector: features (2N, D) of both views, as one batch, to embeddings (2N, dim).
        loss: of the views' embeddings, (N, dim) each.
        chance: its value for a batch of N that the encoder cannot tell apart.
        gathers: True where the loss itself gathers the embeddings of all processes.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projector: nn.Module,
        loss: nn.Module,
        chance: Callable[[int], float],
        gathers: bool = False,
    ) -> None:
        super().__init__(encoder)
        self.projector, self.loss, self._chance, self._gathers = projector, loss, chance, gathers

    def target(self, x: Tensor) -> Tensor:
        """Features (N, D) of x, with gradient: the loss is symmetric."""
        features: Tensor = self.encoder(x)
        return features

    def contrast(self, y: Tensor, target: Tensor) -> Tensor:
        """The loss between features y and target, both (N, D)."""
        return self._loss(self._project(torch.cat([y, target])))

    def forward(self, x1: Tensor, x2: Tensor) -> Contrast:
        """The loss of two views (N, 3, H, W), in one forward over both."""
        y = self.encoder(torch.cat([x1, x2]).contiguous(memory_format=torch.channels_last))  # (2N, D)
        z = self._project(y)
        n = len(x1)
        return Contrast(self._loss(z), y[:n], F.normalize(z[:n].detach()))

    def chance(self, batch_size: int) -> float:
        """The loss at chance."""
        return self._chance(batch_size)

    def _project(self, y: Tensor) -> Tensor:
        return full(self.projector(y))

    def _loss(self, z: Tensor) -> Tensor:
        views = z.chunk(2)
        if not self._gathers:
            views = tuple(gather(view) for view in views)
        with torch.autocast(z.device.type, enabled=False):
            loss: Tensor = self.loss(*views)
        return loss


def nt_xent(params: Contrastive, encoder: ImageEncoder) -> TwoSided:
    """SimCLR's projector and loss around an encoder; at chance all others are as near as the right one."""
    projector = SimCLRProjectionHead(encoder.dim, params.hidden, params.dim)
    # It gathers the embeddings of all processes itself, and compares only its own with them.
    loss = NTXentLoss(temperature=params.temperature, gather_distributed=True)
    return TwoSided(encoder, projector, loss, lambda batch: math.log(2 * batch - 1), gathers=True)
