"""Networks of timm as encoders: their maps against timm's own, whatever shape and statistics these have."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from discern.errors import ParamsError
from discern.images.views import MEAN, STD
from discern.models.build import build_encoder
from discern.models.encoder import has_feature_map
from discern.models.making import Making
from discern.models.timm_encoder import TimmEncoder
from discern.models.weights import load_encoder, save_encoder
from discern.params.encoder import Timm

DINO = "vit_small_patch14_reg4_dinov2"
NETWORKS = {  # name: side of the images, cells along it
    "test_vit": (48, 3),
    "test_resnet": (64, 2),
    "test_efficientnet": (64, 2),
    "test_convnext": (64, 2),
    "test_mambaout": (64, 2),  # channels last in timm's own hands
    "tf_efficientnet_lite0": (64, 2),
}
LARGE = {
    (DINO, 224): 16,
    (DINO, 252): 18,
    ("swin_tiny_patch4_window7_224", 224): 7,
}
CASES = [
    *((name, side, cells) for name, (side, cells) in NETWORKS.items()),
    *(pytest.param(name, side, cells, marks=pytest.mark.slow) for (name, side), cells in LARGE.items()),
]


def made(name: str) -> TimmEncoder:
    encoder = build_encoder(Timm(kind="timm", name=name), seed=0).eval()
    assert isinstance(encoder, TimmEncoder)
    return encoder


def images(side: int, count: int = 2) -> Tensor:
    """Colours (N, 3, S, S) in [0, 1]."""
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def standardised(x: Tensor, mean: Any, std: Any) -> Tensor:
    return (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def by_timm(encoder: TimmEncoder, x: Tensor) -> Tensor:
    """The map (N, D, h, w) of colours x that timm's network gives which was made for their side."""
    name, side = encoder.params.name, x.shape[-1]
    positions = hasattr(encoder.network, "pos_embed")
    sized: dict[str, Any] = {"img_size": side} if positions else {}
    network: Any = timm.create_model(name, **sized).eval()
    state = encoder.network.state_dict()
    if positions:
        old = encoder.network.patch_embed.grid_size
        prefix = 0 if network.no_embed_class else network.num_prefix_tokens
        state["pos_embed"] = resample_abs_pos_embed(
            state["pos_embed"], new_size=network.patch_embed.grid_size, old_size=old, num_prefix_tokens=prefix
        )
    network.load_state_dict(state, strict=False)  # all but the classifier
    config = network.pretrained_cfg
    y: Tensor = network.forward_features(standardised(x, config["mean"], config["std"]))
    if y.ndim == 3:
        y = y[:, network.num_prefix_tokens :].transpose(1, 2)
        side = round(y.shape[2] ** 0.5)
        return torch.stack([image.view(-1, side, side) for image in y])
    return y.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else y


@pytest.mark.parametrize(("name", "side", "cells"), CASES)
def test_the_map_is_timms_own(name: str, side: int, cells: int) -> None:
    encoder, colours = made(name), images(side)
    x = standardised(colours, MEAN, STD)
    with torch.inference_mode():
        expected = by_timm(encoder, colours)
        found = encoder.feature_map(x)
        assert found.shape == (2, encoder.dim, cells, cells)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(encoder(x), expected.mean((2, 3)), atol=1e-5, rtol=1e-5)
        encoder.settle(side)  # changes how, not what
        assert name not in ("test_vit", DINO) or not encoder.network.dynamic_img_size
        torch.testing.assert_close(encoder.feature_map(x), expected, atol=1e-5, rtol=1e-5)
    assert has_feature_map(encoder)


@pytest.mark.parametrize("name", NETWORKS)
def test_stages_halve_the_resolution_and_end_at_the_map(name: str) -> None:
    encoder = made(name)
    x = standardised(images(64), MEAN, STD)
    with torch.inference_mode():
        maps = encoder.stages(x)
        torch.testing.assert_close(maps[-1], encoder.feature_map(x))
    assert [one.shape[1] for one in maps] == encoder.stage_dims
    assert encoder.stage_dims[-1] == encoder.dim
    sides = [one.shape[-1] for one in maps]
    assert all(coarse < fine for fine, coarse in itertools.pairwise(sides))
    assert sides[-3:] == ([4] if name == "test_vit" else [8, 4, 2])


def test_images_that_are_not_square_keep_their_shape() -> None:
    encoder, x = made("test_vit"), torch.randn(2, 3, 32, 48)
    tokens = encoder.network.forward_features(encoder._normalised(x))[:, 1:]
    found = encoder.feature_map(x)
    assert found.shape == (2, 64, 2, 3)
    torch.testing.assert_close(found[:, :, 1, 2], tokens[:, 5])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_statistics_are_changed_in_the_images_own_type_and_layout(dtype: torch.dtype) -> None:
    encoder = made("test_vit")  # made for a mean and a deviation of 0.5
    assert "_scale" not in encoder.state_dict()
    colours = images(32).to(memory_format=torch.channels_last)
    x = standardised(colours, MEAN, STD).to(dtype)
    found = encoder._normalised(x)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    rounding = 2 * 2.0**-8 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(found.float(), 2 * colours - 1, atol=rounding, rtol=rounding)
    same = made("test_efficientnet")  # made for ImageNet's, as images come
    assert same._normalised(x) is x


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    encoder = made(name)
    save_encoder(tmp_path, encoder, Making(64))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load_encoder(tmp_path)(x), encoder(x))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_that_is_trained_has_a_gradient_also_in_bfloat16(name: str) -> None:
    encoder = made(name).train()
    x = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        y = encoder(x)
    assert y.dtype == torch.float32
    torch.autograd.backward(y.square().sum())
    for key, p in encoder.named_parameters():
        assert p.requires_grad is (p.grad is not None), key
    idle = {key for key, p in encoder.named_parameters() if not p.requires_grad}
    assert all(key.startswith("network.head.") for key in idle)


def test_an_unknown_network_is_named_with_those_like_it() -> None:
    with pytest.raises(ParamsError, match=r"base.encoder.name: timm .* 'efficientnet_lit0'.*efficientnet_lite0"):
        build_encoder(Timm(kind="timm", name="efficientnet_lit0"), 0)


def test_a_network_without_a_map_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"base.encoder.name: coat_tiny gives no feature map"):
        build_encoder(Timm(kind="timm", name="coat_tiny"), 0)


def test_a_side_that_a_network_does_not_take_is_named() -> None:
    encoder = made("test_vit")
    with pytest.raises(ParamsError, match=r"pack.image_size = 40: test_vit does not take it.*patch size \(16\)"):
        encoder(torch.randn(1, 3, 40, 40))
    with pytest.raises(ParamsError, match=r"pack.image_size = 16: test_convnext does not take it: .*Kernel size"):
        made("test_convnext")(torch.randn(1, 3, 16, 16))
    encoder.settle(32)
    encoder(torch.randn(1, 3, 32, 32))
    with pytest.raises(ParamsError, match=r"pack.image_size = 48: test_vit does not take it"):
        encoder(torch.randn(1, 3, 48, 48))
    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        # An error of the caller's stays as it is.
        encoder(torch.randn(1, 4, 32, 32))
