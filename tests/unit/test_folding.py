"""Folded batch normalisation is the same function, and where it cannot be, the network stays as it is."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.folding import folded
from discern.params.encoder import Encoder, RawPixels, ResNet, Timm
from tests.methods import ENCODER


def trained(params: Encoder) -> ImageEncoder:
    """An encoder whose normalisations have statistics and weights of their own."""
    encoder, drawn = build_encoder(params, seed=0).eval(), torch.Generator().manual_seed(1)
    for module in encoder.modules():
        if isinstance(module, _BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 2), (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
            ):  # fmt: skip
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=drawn)
    return encoder


def norms(encoder: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in encoder.modules())


@pytest.mark.parametrize(
    "params",
    [ENCODER, ResNet(kind="resnet50", width=8, stem="half"), Timm(kind="timm", name="tf_efficientnet_lite0"),
     Timm(kind="timm", name="mobilenetv3_small_050")],
)  # fmt: skip
def test_the_same_function_without_normalisation(params: Encoder) -> None:
    encoder = trained(params)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    found = folded(encoder, 32)
    assert norms(found) == 0 < norms(encoder)
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        expected = encoder(images)
        torch.testing.assert_close(found(images), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_networks_without_batch_normalisation_stay_themselves() -> None:
    for params in (RawPixels(kind="raw_pixels", side=4), Timm(kind="timm", name="vit_tiny_patch16_224")):
        encoder = build_encoder(params, seed=0).eval()
        assert folded(encoder, 32) is encoder


class Unforeseen(ImageEncoder):
    """What a convolution gives is used beside its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.dim, self.params = 4, ENCODER
        self.convolution, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def feature_map(self, x: Tensor) -> Tensor:
        y: Tensor = self.convolution(x)
        z: Tensor = self.norm(y)
        return y + z


class Repeated(Unforeseen):
    """One normalisation after the same convolution, twice."""

    def feature_map(self, x: Tensor) -> Tensor:
        return torch.cat([self.norm(self.convolution(part)) for part in (x, -x)], 2)


@pytest.mark.parametrize("kind", [Unforeseen, Repeated])
def test_what_cannot_be_folded_computes_as_before(kind: type[Unforeseen]) -> None:
    encoder = kind().eval()
    assert encoder.norm.running_var is not None
    encoder.norm.running_var.fill_(3.0)
    images = torch.rand(2, 3, 8, 8)
    found = folded(encoder, 8)
    assert norms(found) == 1
    torch.testing.assert_close(found(images), encoder(images))
