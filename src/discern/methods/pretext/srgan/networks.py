"""SRGAN's networks (Ledig et al. 2017, arXiv 1609.04802), and the encoders that they leave behind.

Pixels inside are as in the paper: low resolution in [0, 1], high resolution in [-1, 1].
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from discern.images.views import denormalise
from discern.models.convolution import use_products
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.encoder import SRGANDiscriminator, SRGANGenerator

SCALE = 4  # of the super-resolution
STRIDE = 16  # of the discriminator's convolutions
POOLED = 6  # side of the map that the discriminator's dense layers see, at most; that of the paper's 96 px
HIDDEN = 1024  # width of its dense layer


class ResidualBlock(nn.Module):
    """x + BN(conv(PReLU(BN(conv(x))))).

    Args:
        channels: of x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.prelu = nn.PReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same shape."""
        y: Tensor = self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))
        return x + y


class GeneratorEncoder(ImageEncoder):
    """SRResNet; its features are the trunk's, behind the long skip connection.

    Features see what the trunk saw in training: the image at a quarter of its side.

    Args:
        params: channels and residual blocks; 64 and 16 in the paper.
    """

    def __init__(self, params: SRGANGenerator) -> None:
        super().__init__()
        c = params.channels
        self.params, self.dim = params, c
        twice = [[nn.Conv2d(c, 4 * c, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()] for _ in range(2)]
        self.upscaling = nn.Sequential(*twice[0], *twice[1])
        self.conv3 = nn.Conv2d(c, 3, 9, padding=4)
        # The trunk comes last: whoever tunes an encoder's last layers looks there, and features end with `tail`.
        self.conv1 = nn.Conv2d(3, c, 9, padding=4)
        self.prelu = nn.PReLU()
        self.blocks = nn.Sequential(*(ResidualBlock(c) for _ in range(params.blocks)))
        self.tail = nn.Sequential(nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c))

    def feature_map(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W), downscaled, to features (N, C, H/4, W/4)."""
        return self.trunk(downscale(denormalise(x)))

    def trunk(self, low: Tensor) -> Tensor:
        """Low resolution (N, 3, h, w) in [0, 1] to features (N, C, h, w)."""
        x: Tensor = self.prelu(self.conv1(low))
        y: Tensor = self.tail(self.blocks(x))
        return x + y

    def restore(self, features: Tensor) -> Tensor:
        """Features (N, C, h, w) of the trunk to images (N, 3, 4h, 4w) about [-1, 1], in full precision."""
        return full(self.conv3(self.upscaling(features)))


class DiscriminatorEncoder(ImageEncoder):
    """The discriminator's eight convolutions; its features are the last one's, of the whole image.

    Args:
        params: channels of the first convolution; 64 in the paper.
    """

    def __init__(self, params: SRGANDiscriminator) -> None:
        super().__init__()
        w = params.width
        self.params, self.dim = params, 8 * w
        # Strides 1 and 2 in turn; no normalisation behind the first.
        layers: list[nn.Module] = [nn.Conv2d(3, w, 3, padding=1), nn.LeakyReLU(0.2)]
        widths = [w, w, 2 * w, 2 * w, 4 * w, 4 * w, 8 * w, 8 * w]
        for number in range(1, 8):
            stride = 1 + number % 2
            conv = nn.Conv2d(widths[number - 1], widths[number], 3, stride, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(widths[number]), nn.LeakyReLU(0.2)]
        self.body = nn.Sequential(*layers)
        use_products(self)

    def feature_map(self, x: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) to features (N, D, H/16, W/16)."""
        return self.of_signed(signed(denormalise(x)))

    def of_signed(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [-1, 1] to features (N, D, H/16, W/16)."""
        features: Tensor = self.body(images)
        return features


class Verdict(nn.Module):
    """The discriminator's dense layers: the logit that an image is real.

    Args:
        dim: D of its feature map.
        size: side of the images in pixels; maps larger than the paper's 6x6 are pooled to that.
    """

    def __init__(self, dim: int, size: int) -> None:
        super().__init__()
        side = math.ceil(size / STRIDE)
        self.pool = nn.AdaptiveAvgPool2d(POOLED) if side > POOLED else nn.Identity()
        pixels = min(side, POOLED) ** 2
        self.dense = nn.Sequential(nn.Linear(dim * pixels, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, D, size/16, size/16) to logits (N,), in full precision."""
        return full(self.dense(self.pool(features).flatten(1))).squeeze(1)


def downscale(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) in [0, 1] to (N, 3, H/4, W/4), bicubic with antialiasing."""
    size = tuple(max(1, side // SCALE) for side in images.shape[2:])
    return F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def bicubic(low: Tensor) -> Tensor:
    """Low resolution (N, 3, h, w) in [0, 1] to (N, 3, 4h, 4w): what a generator has to beat."""
    return F.interpolate(low, scale_factor=SCALE, mode="bicubic").clamp(0, 1)


def signed(images: Tensor) -> Tensor:
    """Images in [0, 1] to [-1, 1]."""
    return 2 * images - 1


def unsigned(images: Tensor) -> Tensor:
    """Images about [-1, 1] to [0, 1], clamped."""
    return ((images + 1) / 2).clamp(0, 1)
