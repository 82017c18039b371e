"""InfoNCE against a queue of keys from a momentum encoder (MoCo v2: Chen et al. 2020, arXiv 2003.04297)."""

import math

import torch
import torch.nn.functional as F
from lightly.models.modules import MoCoProjectionHead
from torch import Tensor, nn

from discern.errors import ParamsError
from discern.methods.parts.follower import Follower
from discern.methods.parts.joint_embedding import Contrast, JointEmbedding
from discern.models.collectives import gather
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.two_view import Queue


class QueueContrast(JointEmbedding):
    """Queries of the first view against keys of the second and a queue of earlier keys.

    Args:
        params: temperature, the projector's sizes, queue and momentum.
        encoder: f; the key encoder starts as its copy.
        images: size of the training set.

    Raises:
        ParamsError: the queue is longer than the training set, and nobody allowed it: an image would be its own
            negative.
    """

    queue: Tensor
    queue_start: Tensor

    def __init__(self, params: Queue, encoder: ImageEncoder, images: int) -> None:
        super().__init__(encoder)
        if params.queue > images and not params.allow_long_queue:
            raise ParamsError(
                f"methods: queue = {params.queue} is longer than the training set ({images} images): every image"
                " would be its own negative; shorten it, or set allow_long_queue: true"
            )
        self.params = params
        self.projector = MoCoProjectionHead(encoder.dim, params.hidden, params.dim, batch_norm=params.batch_norm)
        self.key_encoder = Follower(encoder, params.momentum)
        self.key_projector = Follower(self.projector, params.momentum)
        self.register_buffer("queue", F.normalize(torch.randn(params.queue, params.dim)))
        self.register_buffer("queue_start", torch.zeros((), dtype=torch.long))
        self._new_keys: list[Tensor] = []

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        """Normalised keys (N, dim) of x, without gradient."""
        return _project(self.key_projector, self.key_encoder(x))

    def contrast(self, y: Tensor, target: Tensor) -> Tensor:
        """InfoNCE of features y (N, D) against their keys `target` (N, dim) and the queue (K, dim)."""
        return info_nce(_project(self.projector, y), target, self.queue, self.params.temperature)

    def forward(self, x1: Tensor, x2: Tensor) -> Contrast:
        """InfoNCE of the first view (N, 3, H, W) against the second."""
        return self.against(self.encoder(x1), x2)

    def against(self, y: Tensor, x2: Tensor) -> Contrast:
        """InfoNCE of the first view's features y (N, D) against the second view x2 (N, 3, H, W)."""
        query = _project(self.projector, y)
        keys = self.target(x2)
        if self.training:
            self._new_keys.append(keys)  # queued after the step: a loss must not see its own keys twice
        loss = info_nce(query, keys, self.queue, self.params.temperature)
        return Contrast(loss, y, query.detach())

    def chance(self, batch_size: int) -> float:  # noqa: ARG002  # the queue, not the batch, decides
        """ln(K + 1)."""
        return math.log(self.params.queue + 1)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move the key encoder towards the encoder, and queue all processes' keys of this step over the oldest."""
        self.key_encoder.follow(self.encoder)
        self.key_projector.follow(self.projector)
        if not self._new_keys:
            return
        keys = torch.cat([gather(part) for part in self._new_keys])[: len(self.queue)]
        rows = (self.queue_start + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[rows] = keys
        self.queue_start.copy_((self.queue_start + len(keys)) % len(self.queue))
        self._new_keys = []


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of picking the own key among it and the queue (van den Oord et al. 2018).

    Args:
        query: (N, d), L2-normalised.
        key: (N, d), L2-normalised; row i belongs to query i.
        queue: (K, d), L2-normalised negatives.
        temperature: divides the cosine similarities.
    """
    positive = (query * key).sum(1, keepdim=True)  # (N, 1)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature  # (N, 1 + K)
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def _project(projector: nn.Module, y: Tensor) -> Tensor:
    with torch.autocast(y.device.type, enabled=False):
        return F.normalize(projector(full(y)))
