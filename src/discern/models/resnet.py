"""Torchvision's ResNets up to global average pooling, with a width and a stem to choose."""

import re
from typing import cast

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

from discern.models.convolution import use_products
from discern.models.encoder import ImageEncoder
from discern.params.encoder import ResNet

BLOCKS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}

_BLOCK = re.compile(r"layer(\d)\.(\d+)\.")


class ResNetEncoder(ImageEncoder, TorchvisionResNet):  # type: ignore[misc]  # torchvision ships no types
    """A torchvision ResNet without its classifier; parameter names stay torchvision's.

    Args:
        params: kind, width (64 is torchvision's) and stem.
    """

    maxpool: nn.Module
    relu: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module

    def __init__(self, params: ResNet) -> None:
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
        self.params = params
        self.dim = params.width * 8 * block.expansion
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
        return self.stages(x)[-1]

    def depths(self, coarse: bool) -> dict[str, int]:
        """The stem is 0, the four stages or all their blocks follow."""
        names = [name for name, _ in self.named_parameters()]
        begins = [_BLOCK.match(name) for name in names]
        places = [() if at is None else (int(at[1]), 0 if coarse else int(at[2])) for at in begins]
        order = sorted(set(places))
        return {name: order.index(place) for name, place in zip(names, places, strict=True)}

    @property
    def stage_dims(self) -> list[int]:
        """Channels of the four stages' maps."""
        return [self.dim // 8, self.dim // 4, self.dim // 2, self.dim]

    def stages(self, x: Tensor) -> list[Tensor]:
        """The feature maps that the four stages give."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def last_stage(self) -> nn.Module:
        """What follows the third stage's map."""
        return self.layer4
