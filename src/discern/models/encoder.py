"""The encoder f: torchvision's ResNets up to global average pooling, with a width and a stem to choose."""

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from discern.models.convolution import use_products
from discern.models.precision import full
from discern.params.training import Encoder

BLOCKS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


class ResNetEncoder(ResNet):  # type: ignore[misc]  # torchvision ships no types
    """A torchvision ResNet without its classifier; parameter names stay torchvision's.

    Args:
        params: kind, width (64 is torchvision's) and stem.

    Attributes:
        dim: D, the number of pooled features.
    """

    def __init__(self, params: Encoder) -> None:
        block, layers = BLOCKS[params.kind]
        self._width = params.width  # before nn.Module.__init__: _make_layer needs it while the base class builds
        super().__init__(block, layers)
        if params.stem == "imagenet":
            self.conv1 = nn.Conv2d(3, params.width, 7, stride=2, padding=3, bias=False)
        else:
            stride = 1 if params.stem == "small_images" else 2
            self.conv1 = nn.Conv2d(3, params.width, 3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(params.width)
        if params.stem == "small_images":
            self.maxpool = nn.Identity()
        self.fc = nn.Identity()
        self.dim: int = params.width * 8 * block.expansion
        use_products(self)

    def _make_layer(
        self,
        block: type[BasicBlock | Bottleneck],
        planes: int,
        blocks: int,
        stride: int = 1,
        dilate: bool = False,
    ) -> nn.Sequential:
        if planes == 64:  # the first stage takes what the stem of this width gives
            self.inplanes = self._width
        return cast(nn.Sequential, super()._make_layer(block, planes * self._width // 64, blocks, stride, dilate))

    def feature_map(self, x: Tensor) -> Tensor:
        """F: normalised images (N, 3, H, W) to the last feature map (N, D, H', W')."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return cast(Tensor, self.layer4(self.layer3(self.layer2(self.layer1(x)))))

    def forward(self, x: Tensor) -> Tensor:
        """Y = f(x): normalised images (N, 3, H, W) to pooled features (N, D), in full precision."""
        return full(self.feature_map(x)).mean((2, 3))


def build_encoder(params: Encoder, seed: int) -> ResNetEncoder:
    """A freshly initialised encoder; the seed decides its weights and nothing else is disturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = ResNetEncoder(params)
    encoder.to(memory_format=torch.channels_last)
    return encoder
