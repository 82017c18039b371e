"""Losses that predict the other view's embedding, whose gradient is stopped: SimSiam, BYOL."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.methods.parts.follower import Follower
from discern.methods.parts.joint_embedding import Contrast, JointEmbedding
from discern.models.encoder import ImageEncoder
from discern.models.precision import full


class Predictive(JointEmbedding):
    """A predictor on one side, a stopped gradient on the other, and the mean of both directions.

    Args:
        encoder: f.
        projector: features (N, D) to embeddings (N, dim).
        predictor: embeddings (N, dim) to predictions of the other side's.
        loss: between predictions and embeddings, (N, dim) each.
        chance: its value for unrelated vectors.
        momentum: of the encoder and projector that give the embeddings; None: the trained ones themselves.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        projector: nn.Module,
        predictor: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        chance: float,
        momentum: float | None = None,
    ) -> None:
        super().__init__(encoder)
        self.projector, self.predictor = projector, predictor
        self._loss, self._chance, self.momentum = loss, chance, momentum
        if momentum is not None:
            self.passes = 4
            self.key_encoder, self.key_projector = Follower(encoder, momentum), Follower(projector, momentum)

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        """Embeddings (N, dim) of images x, without gradient."""
        if self.momentum is None:
            return full(self.projector(self.encoder(x)))
        targets: Tensor = self.key_projector(self.key_encoder(x))
        return targets

    def contrast(self, y: Tensor, target: Tensor) -> Tensor:
        """The loss between the prediction from features y (N, D) and `target` (N, dim)."""
        return self._distance(full(self.predictor(self.projector(y))), target)

    def forward(self, x1: Tensor, x2: Tensor) -> Contrast:
        """Both directions' mean for two views (N, 3, H, W), in one forward over both."""
        x = torch.cat([x1, x2]).contiguous(memory_format=torch.channels_last)
        y = self.encoder(x)  # (2N, D)
        z = self.projector(y)  # (2N, dim)
        targets = full(z.detach()) if self.momentum is None else self.target(x)
        predictions = full(self.predictor(z))
        loss = self._distance(predictions, targets.roll(len(x1), 0))  # each view against the other
        n = len(x1)
        return Contrast(loss, y[:n], F.normalize(full(z[:n].detach())))

    def chance(self, batch_size: int) -> float:  # noqa: ARG002  # no negatives, so the batch decides nothing
        """The loss of unrelated vectors."""
        return self._chance

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the momentum encoder, where there is one, towards the trained one."""
        if self.momentum is not None:
            self.key_encoder.follow(self.encoder)
            self.key_projector.follow(self.projector)

    def _distance(self, predictions: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(predictions.device.type, enabled=False):
            return self._loss(predictions, targets)
