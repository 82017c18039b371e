"""Heat maps of what the contrastive loss looks at, drawn by pytorch-grad-cam."""

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from discern.methods.parts.joint_embedding import JointEmbedding
from discern.models.encoder import ImageEncoder
from discern.models.precision import full


class ContrastiveTarget:
    """The score of one image for pytorch-grad-cam: minus the batch's loss, as a function of this row only.

    Args:
        method: L_C.
        row: which of the batch's images.
        y: features (N, D) of all first views, constant but for `row`.
        target: of all second views.
    """

    def __init__(self, method: JointEmbedding, row: int, y: Tensor, target: Tensor) -> None:
        self.method, self.row, self.y, self.target = method, row, y, target

    def __call__(self, own: Tensor) -> Tensor:
        """Minus the loss with this row's features (D,) in the graph."""
        y = torch.cat([self.y[: self.row], own[None], self.y[self.row + 1 :]])
        return -self.method.contrast(y, self.target)


def loss_heat_maps(method: JointEmbedding, x1: Tensor, x2: Tensor, count: int) -> NDArray[np.float32]:
    """Grad-CAM maps (count, S, S) in [0, 1] of the first `count` first views under L_C.

    Args:
        method: in eval mode.
        x1: first views (N, 3, S, S).
        x2: second views (N, 3, S, S).
        count: images to draw.
    """
    with torch.no_grad():
        y, target = method.encoder(x1).detach(), method.target(x2).detach()
    targets = [ContrastiveTarget(method, row, y, target) for row in range(count)]
    model = _WithMap(method.encoder)
    with GradCAM(model=model, target_layers=[model.map]) as cam:
        maps: NDArray[np.float32] = cam(input_tensor=x1[:count], targets=targets)
    # The library leaves a gradient on every parameter.
    method.zero_grad(set_to_none=True)
    return maps


class _FeatureMap(nn.Module):
    """An encoder's feature map as a layer that the library can hook, whatever the encoder's own layers are."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder.feature_map(x)


class _WithMap(nn.Module):
    """The encoder, pooled over the map that the layer gives."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.map = _FeatureMap(encoder)

    def forward(self, x: Tensor) -> Tensor:
        return full(self.map(x)).mean((2, 3))
