"""DINO: self-distillation without labels (Caron et al. 2021, arXiv 2104.14294)."""

import math
import warnings

import torch
import torch.nn.functional as F
from lightly.models.modules import DINOProjectionHead
from torch import Tensor, nn
from torch.nn.utils import parametrizations, remove_weight_norm

from discern.methods.build import Setup
from discern.methods.parts.follower import Follower
from discern.methods.parts.joint_embedding import Contrast, JointEmbedding
from discern.models.collectives import gather
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.two_view import DINO


class DINOMethod(JointEmbedding):
    """Each view's student predicts the other view's teacher; two views of full size, without DINO's small crops.

    Every method sees the same views, so the paper's multi-crop is left out; so are the schedules of the teacher's
    momentum and temperature.

    Args:
        params: the head's sizes, temperatures and momenta.
        encoder: f; the teacher starts as its copy.
    """

    passes = 4
    centre: Tensor

    def __init__(self, params: DINO, encoder: ImageEncoder) -> None:
        super().__init__(encoder)
        self.params = params
        self.head = _head(params, encoder.dim)
        self.teacher = Follower(encoder, params.momentum)
        self.teacher_head = Follower(self.head, params.momentum)
        self.register_buffer("centre", torch.zeros(params.dim))
        self._outputs: list[Tensor] = []

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        """The teacher's output (N, dim) for images x, before centring."""
        answer: Tensor = self.teacher_head(self.teacher(x))
        return answer

    def contrast(self, y: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of the student's answer to features y (N, D) under the teacher's (N, dim)."""
        return self._cross_entropy(self.head(y), target)

    def forward(self, x1: Tensor, x2: Tensor) -> Contrast:
        """Both directions' mean for two views (N, 3, H, W), in one forward over both."""
        x = torch.cat([x1, x2]).contiguous(memory_format=torch.channels_last)
        y = self.encoder(x)  # (2N, D)
        targets = self.target(x)  # (2N, dim)
        if self.training:
            self._outputs.append(targets)
        n = len(x1)
        loss = self._cross_entropy(self.head(y), targets.roll(n, 0))  # each view against the other
        return Contrast(loss, y[:n], F.normalize(y[:n].detach()))

    def chance(self, batch_size: int) -> float:  # noqa: ARG002  # the prototypes, not the batch, decide
        """ln(dim)."""
        return math.log(self.params.dim)

    @torch.no_grad()
    def after_step(self) -> None:
        """Move teacher and centre; the centre follows the teacher's mean output over all processes."""
        self.teacher.follow(self.encoder)
        self.teacher_head.follow(self.head)
        if self._outputs:
            mean = torch.cat([gather(part) for part in self._outputs]).mean(0)
            self.centre.lerp_(mean, 1 - self.params.centre_momentum)
            self._outputs = []

    def _cross_entropy(self, student: Tensor, teacher: Tensor) -> Tensor:
        with torch.autocast(teacher.device.type, enabled=False):
            answer = F.softmax((teacher - self.centre) / self.params.teacher_temperature, dim=1)
            logits = full(student) / self.params.student_temperature
            return -(answer * F.log_softmax(logits, dim=1)).sum(1).mean()


def _head(params: DINO, dim: int) -> nn.Module:
    """Head of lightly, its prototypes of length 1 by torch's present weight normalisation, which can be copied."""
    sizes = {"input_dim": dim, "hidden_dim": params.hidden, "bottleneck_dim": params.bottleneck}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of its weight normalisation, which is taken off at once
        head = DINOProjectionHead(**sizes, output_dim=params.dim, batch_norm=params.batch_norm)
    prototypes: nn.Module = parametrizations.weight_norm(remove_weight_norm(head.last_layer))
    prototypes.get_parameter("parametrizations.weight.original0").requires_grad_(False)
    head.last_layer = prototypes
    projector: nn.Module = head
    return projector


def build(params: DINO, setup: Setup) -> DINOMethod:
    """At chance the student's answer is uniform: ln(prototypes)."""
    return DINOMethod(params, setup.encoder)
