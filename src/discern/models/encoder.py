"""What every encoder offers, and the one place that makes one from its description."""

import torch
from torch import Tensor, nn

from discern.models.precision import full
from discern.params.encoder import (
    Attended,
    HistogramHOG,
    RawPixels,
    ResNet,
    SRGANDiscriminator,
    SRGANGenerator,
    ViT,
)
from discern.params.model import ParamModel


class ImageEncoder(nn.Module):
    """f: normalised images (N, 3, H, W) to features (N, D).

    Attributes:
        dim: D.
        params: the description that `build_encoder` makes it from.
    """

    dim: int
    params: ParamModel

    def feature_map(self, x: Tensor) -> Tensor:
        """F: normalised images (N, 3, H, W) to the last feature map (N, D, H', W')."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Y = f(x): normalised images (N, 3, H, W) to pooled features (N, D), in full precision."""
        return full(self.feature_map(x)).mean((2, 3))


def has_feature_map(encoder: ImageEncoder) -> bool:
    """False where features are not the mean of a feature map, so that Grad-CAM has no closed form."""
    return type(encoder).forward is ImageEncoder.forward


def build_encoder(params: ParamModel, seed: int) -> ImageEncoder:
    """A freshly initialised encoder; the seed decides its weights and nothing else is disturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _new(params)
    return encoder.to(memory_format=torch.channels_last)


def _new(params: ParamModel) -> ImageEncoder:
    # Each network is imported when it is wanted: torchvision takes seconds.
    match params:
        case ResNet():
            from discern.models.resnet import ResNetEncoder

            return ResNetEncoder(params)
        case ViT():
            from discern.models.vit import ViTEncoder

            return ViTEncoder(params)
        case Attended():
            from discern.models.attended import AttendedEncoder

            return AttendedEncoder(params, _new(params.encoder))
        case RawPixels():
            from discern.models.handcrafted import RawPixelEncoder

            return RawPixelEncoder(params)
        case HistogramHOG():
            from discern.models.handcrafted import HistogramHOGEncoder

            return HistogramHOGEncoder(params)
        case SRGANGenerator():
            from discern.models.srgan import GeneratorEncoder

            return GeneratorEncoder(params)
        case SRGANDiscriminator():
            from discern.models.srgan import DiscriminatorEncoder

            return DiscriminatorEncoder(params)
    raise TypeError(f"no encoder is described by {type(params).__name__}")
