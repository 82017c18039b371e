"""Convolutions as matrix products against torch's own, values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.models.build import build_encoder
from discern.models.convolution import LARGEST, SmallMapConv2d, use_products
from discern.params.encoder import ResNet


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (3, 3), (5, 4), (6, 6)])
def test_products_equal_the_convolution_and_its_gradients(height: int, width: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 24, height, width, generator=generator).bfloat16().requires_grad_()
    layer = SmallMapConv2d(24, 40, 3, stride=stride, padding=1, bias=False)
    y = layer(x)
    assert y.grad_fn is not None
    assert "Products" in type(y.grad_fn).__name__
    direction = torch.randn(y.shape, generator=generator).bfloat16()
    to_x, to_weight = torch.autograd.grad(y, [x, layer.weight], direction)

    wide_x = x.detach().double().requires_grad_()
    weight = layer.weight.detach().bfloat16().double().requires_grad_()
    reference = F.conv2d(wide_x, weight, stride=stride, padding=1)
    expected = torch.autograd.grad(reference, [wide_x, weight], direction.double())
    # bfloat16 keeps eight bits: one rounding of the result, two where patches are summed.
    assert distance(y.detach(), reference.detach()) < 2**-8
    assert distance(to_x, expected[0]) < 2**-8
    assert distance(to_weight, expected[1]) < 2**-8


@pytest.mark.parametrize("x", [torch.randn(2, 8, LARGEST, LARGEST), torch.randn(2, 8, 9, 3).bfloat16()])
def test_other_precisions_and_larger_maps_go_torchs_way(x: Tensor) -> None:
    layer = SmallMapConv2d(8, 8, 3, padding=1, bias=False).to(x.dtype)
    y = layer(x)
    assert "Products" not in type(y.grad_fn).__name__
    assert torch.equal(y, F.conv2d(x, layer.weight, padding=1))


def test_only_plain_3x3_convolutions_are_changed_and_weights_stay() -> None:
    layers = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, bias=False),
        nn.Conv2d(4, 4, 3, padding=1),
        nn.Conv2d(4, 4, 3, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(4, 4, 1, bias=False),
    )
    before = {name: value.clone() for name, value in layers.state_dict().items()}
    use_products(layers)
    assert [type(layer) is SmallMapConv2d for layer in layers] == [True, False, False, False, False]
    assert all(torch.equal(value, before[name]) for name, value in layers.state_dict().items())


def test_an_encoder_learns_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))

    def gradients() -> list[Tensor]:
        encoder = build_encoder(ResNet(kind="resnet18", width=16, stem="half"), 0)
        with torch.autocast("cpu", torch.bfloat16):
            encoder(x).square().mean().backward()
        return [p.grad for p in encoder.parameters() if p.grad is not None]

    products = gradients()
    monkeypatch.setattr("discern.models.convolution.LARGEST", 0)
    convolutions = gradients()
    assert not all(torch.equal(a, b) for a, b in zip(products, convolutions, strict=True))
    for a, b in zip(products, convolutions, strict=True):
        assert distance(a, b) < 0.05
