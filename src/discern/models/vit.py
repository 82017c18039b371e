"""Torchvision's vision transformer without its classifier, pooled over patches."""

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import VisionTransformer

from discern.models.encoder import ImageEncoder
from discern.params.encoder import ViT


class ViTEncoder(ImageEncoder, VisionTransformer):  # type: ignore[misc]  # torchvision ships no types
    """A vision transformer whose features are the mean of the patches' tokens; names stay torchvision's.

    The mean instead of the class token, so that features are a pooled feature map as those of the ResNets: scoring
    and Grad-CAM rest on that. The class token still takes part in attention.

    Args:
        params: sizes; `image_size` is the only one it takes.
    """

    encoder: nn.Module
    class_token: nn.Parameter

    def __init__(self, params: ViT) -> None:
        super().__init__(
            params.image_size, params.patch, params.depth, params.heads, params.width, 4 * params.width
        )
        self.heads = nn.Identity()
        self.params = params
        self.dim = params.width

    def feature_map(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, S, S) to the patches' tokens as a map (N, D, S / patch, S / patch)."""
        tokens = VisionTransformer._process_input(self, x)  # (N, patches, D)
        tokens = self.encoder(torch.cat([self.class_token.expand(len(x), -1, -1), tokens], dim=1))[:, 1:]
        side = x.shape[-1] // cast(int, self.patch_size)
        return cast(Tensor, tokens.transpose(1, 2).unflatten(2, (side, side)))
