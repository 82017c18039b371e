"""Encoder, decoder, and weights in and out."""

from pathlib import Path

import pytest
import torch
import torchvision

from discern.errors import ModelError
from discern.models.build import build_encoder
from discern.models.decoder import build_decoder
from discern.models.making import Making
from discern.models.weights import load_decoder, load_encoder, save_decoder, save_encoder
from discern.params.encoder import ResNet
from discern.params.synthesis import Decoder

SMALL = ResNet(kind="resnet18", width=8, stem="small_images")


@pytest.mark.parametrize("kind", ["resnet18", "resnet50"])
def test_full_width_is_torchvisions_network(kind: str) -> None:
    ours = build_encoder(ResNet(kind=kind, width=64, stem="imagenet"), seed=0)
    theirs = getattr(torchvision.models, kind)(weights=None)
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict())  # the same names and shapes
    x = torch.randn(2, 3, 64, 64)
    # Channels-last kernels add up in another order.
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-2, atol=1e-3)
    assert ours.dim == ours(x).shape[1]


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 2), ("half", 2), ("small_images", 8)])
def test_stem_and_width(stem: str, side: int) -> None:
    encoder = build_encoder(ResNet(kind="resnet18", width=16, stem=stem), seed=0)
    x = torch.randn(2, 3, 64, 64)
    assert encoder.feature_map(x).shape == (2, 128, side, side)
    encoder.eval()
    torch.testing.assert_close(encoder(x), encoder.feature_map(x).mean((2, 3)))


def test_seed_decides_the_weights_and_disturbs_nothing() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = (build_encoder(SMALL, seed).get_parameter("conv1.weight") for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_decoder_gives_images_of_its_resolution(resolution: int) -> None:
    decoder = build_decoder(Decoder(width=32, resolution=resolution), dim=24, seed=0)
    image = decoder(torch.randn(3, 24))
    assert image.shape == (3, 3, resolution, resolution)
    assert image.dtype == torch.float32


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    encoder = build_encoder(SMALL, seed=1)
    params = Decoder(width=16, resolution=16)
    decoder = build_decoder(params, encoder.dim, seed=1)
    save_encoder(tmp_path, encoder, Making(32))
    save_decoder(tmp_path, decoder, params, encoder.dim)
    x = torch.randn(2, 3, 32, 32)
    loaded = load_encoder(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded(x), encoder.eval()(x))
    y = encoder(x)
    assert torch.equal(load_decoder(tmp_path)(y), decoder.eval()(y))


def test_missing_damaged_and_foreign_weights_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"encoder\.json: no such file"):
        load_encoder(tmp_path)
    save_encoder(tmp_path, build_encoder(SMALL, 0), Making(32))
    weights = tmp_path / "encoder.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"encoder\.safetensors: damaged"):
        load_encoder(tmp_path)
    other = SMALL.model_copy(update={"width": 16})
    save_encoder(tmp_path / "other", build_encoder(other, 0), Making(32))
    (tmp_path / "other" / "encoder.safetensors").rename(weights)
    with pytest.raises(ModelError, match="another architecture"):
        load_encoder(tmp_path)
    weights.unlink()
    with pytest.raises(ModelError, match=r"encoder\.safetensors: no such file"):
        load_encoder(tmp_path)
    (tmp_path / "encoder.json").write_text("{")
    with pytest.raises(ModelError, match="not valid JSON"):
        load_encoder(tmp_path)
