"""The vision transformer: torchvision's network, pooled over patches."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torchvision.models import VisionTransformer

from discern.errors import ParamsError
from discern.models.build import build_encoder
from discern.models.encoder import has_feature_map
from discern.models.making import Making
from discern.models.weights import load_encoder, save_encoder
from discern.params.encoder import ViT
from discern.params.load import load_text

SMALL = ViT(kind="vit", width=48, depth=2, heads=3, patch=8, image_size=32)
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text(encoding="utf-8")


def test_it_is_torchvisions_network_up_to_the_pooling() -> None:
    ours = build_encoder(SMALL, seed=0).eval()
    theirs = VisionTransformer(32, 8, 2, 3, 48, 192).eval()
    theirs.heads = torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict())  # the same names and shapes
    seen: list[torch.Tensor] = []
    theirs.encoder.register_forward_hook(lambda module, args, tokens: seen.append(tokens))
    x = torch.randn(3, 3, 32, 32)
    theirs(x)
    torch.testing.assert_close(ours(x), seen[0][:, 1:].mean(1))
    feature_map = ours.feature_map(x)
    assert feature_map.shape == (3, 48, 4, 4)
    torch.testing.assert_close(feature_map[:, :, 1, 2], seen[0][:, 1 + 1 * 4 + 2])
    assert ours.dim == 48
    assert has_feature_map(ours)


def test_vit_s_16_has_its_published_size() -> None:
    params = ViT(kind="vit", width=384, depth=12, heads=6, patch=16, image_size=224)
    assert (
        sum(p.numel() for p in build_encoder(params, 0).parameters()) == 21_665_664
    )  # 21.7 M without a classifier


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    encoder = build_encoder(SMALL, seed=1).eval()
    save_encoder(tmp_path, encoder, Making(32))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_encoder(tmp_path)(x), encoder(x))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("{kind: vit, width: 48, depth: 2, heads: 3, patch: 8, image_size: 32}", "base.encoder.image_size = 32"),
        ("{kind: vit, width: 50, depth: 2, heads: 3, patch: 8, image_size: 64}", "heads = 3 does not divide"),
        ("{kind: vit, width: 48, depth: 2, heads: 3, patch: 7, image_size: 64}", "patch = 7 does not divide"),
    ],
)
def test_sizes_that_do_not_fit_are_named(encoder: str, message: str) -> None:
    line = next(line for line in TEXT.splitlines() if line.startswith("  encoder:"))
    with pytest.raises(ParamsError, match=message):
        load_text(TEXT.replace(line, f"  encoder: {encoder}"), methods=ROOT / "methods")


def test_the_model_itself_refuses_too() -> None:
    with pytest.raises(ValidationError, match="heads = 5 does not divide"):
        ViT(kind="vit", width=48, depth=2, heads=5, patch=8, image_size=32)
