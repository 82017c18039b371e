"""LCR: learning common rationale (Shu et al., CVPR 2023): MoCo v2 and a branch that learns where its loss looks.

Its released code normalises the attention over the batch, so that a feature depends on its batch mates, and takes
the softmax of MoCo's map over one axis only. Here both are per image, and over all positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.images.views import Augment
from discern.methods.build import Setup
from discern.methods.parts.queue import QueueContrast
from discern.models.build import new_encoder
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.encoder import Attended
from discern.params.pretext import LCR
from discern.training.objective import Batch, Objective, Terms


class AttendedEncoder(ImageEncoder):
    """Features GAP(F * A): 1x1 filters, batch normalisation, ReLU, their maximum, scaled to [0, 1] for each image.

    Args:
        params: the encoder inside, and the number of filters.
        encoder: f, whose feature map F is weighed; a new one where none is given.
    """

    def __init__(self, params: Attended, encoder: ImageEncoder | None = None) -> None:
        super().__init__()
        if encoder is None:
            encoder = new_encoder(params.encoder)
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


class LCRObjective(Objective):
    """MoCo's loss on the pooled features, and a branch fitted to where that loss looks.

    Args:
        params: MoCo's, the branch's width and the weight of its fit.
        encoder: f; what is kept in the end weighs its feature map with the branch.
        images: size of the training set.
    """

    passes = 2

    def __init__(self, params: LCR, encoder: ImageEncoder, images: int) -> None:
        super().__init__()
        description = Attended(kind="attended", encoder=encoder.params, projections=params.projections)
        self.encoder: AttendedEncoder = AttendedEncoder(description, encoder)
        self.method = QueueContrast(params, encoder, images)
        self.weight = params.fitting_weight

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """Two views; the branch sees the first."""
        x1, x2 = (augment(batch.images, batch.index, batch.epoch, view) for view in (0, 1))
        feature_map = self.encoder.encoder.feature_map(x1)  # (N, D, H', W')
        contrast = self.method.against(full(feature_map).mean((2, 3)), x2)
        rationale = self._rationale(contrast.loss, feature_map)
        fit = divergence(rationale, self.encoder.attention(feature_map))
        parts = {"contrastive": contrast.loss, "fitting": fit}
        return Terms(contrast.loss + self.weight * fit, parts, contrast.embedding)

    def chance(self, batch_size: int) -> float:
        """ln(K + 1): MoCo's."""
        return self.method.chance(batch_size)

    def after_step(self) -> None:
        """MoCo's key encoder and queue."""
        self.method.after_step()

    @staticmethod
    def _rationale(loss: Tensor, feature_map: Tensor) -> Tensor:
        """Grad-CAM (N, H', W') of the loss: ReLU(sum_k F_k dL/dF_k), scaled to [0, 1] for each image."""
        (gradient,) = torch.autograd.grad(loss, feature_map, retain_graph=True)
        return per_image((full(feature_map) * full(gradient)).sum(1).relu().detach())


def divergence(target: Tensor, attention: Tensor) -> Tensor:
    """KL(softmax(target) || softmax(attention)) of maps (N, H', W') over all positions, mean over images."""
    log_target, log_attention = (full(m).flatten(1).log_softmax(1) for m in (target, attention))
    return F.kl_div(log_attention, log_target, reduction="batchmean", log_target=True)


def build(params: LCR, setup: Setup) -> LCRObjective:
    """At chance as MoCo: ln(K + 1)."""
    return LCRObjective(params, setup.encoder, setup.images)
