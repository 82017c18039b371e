"""Checkpoints as their makers lay them out, made by renaming a small network: each encoder comes out as it was."""

import logging
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from discern.errors import ModelError
from discern.models.build import build_encoder
from discern.models.checkpoints import inner
from discern.models.encoder import ImageEncoder
from discern.models.making import Making
from discern.models.pretrained import initialise
from discern.models.weights import save_encoder
from discern.params.encoder import NetworkModel, Timm
from tests.methods import ENCODER

State = dict[str, Tensor]
VIT = Timm(kind="timm", name="test_vit")
DINOV2 = Timm(kind="timm", name="vit_small_patch14_reg4_dinov2")


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def copy(prefix: str, state: State) -> State:
    """A momentum copy: of the same shapes, and of other weights."""
    return {name: tensor + 1 for name, tensor in prefixed(prefix, state).items()}


def layers(*names: str) -> State:
    return {f"{name}.{part}": torch.ones(4) for name in names for part in ("weight", "bias")}


def numbered(state: State) -> State:
    """A ResNet's children in nn.Sequential, as lightly's examples have it."""
    number = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return {f"{number[k.partition('.')[0]]}.{k.partition('.')[2]}": v for k, v in state.items()}


def moco_v2(state: State) -> object:
    query = prefixed("encoder_q.", state | layers("fc.0", "fc.2"))
    keys = copy("encoder_k.", state | layers("fc.0", "fc.2"))
    queue = {"queue": torch.ones(4, 8), "queue_ptr": torch.zeros(1)}
    return {
        "epoch": 200,
        "arch": "resnet18",
        "state_dict": prefixed("module.", query | keys | queue),
        "optimizer": {},
    }


def moco_v3(state: State) -> object:
    base = prefixed("base_encoder.", state | layers("head.0", "head.4"))
    momentum = copy("momentum_encoder.", state | layers("head.0"))
    return {"state_dict": prefixed("module.", base | momentum | layers("predictor.0")), "scaler": {"scale": 1.0}}


def dino(state: State) -> object:
    """The authors' full checkpoint, with the arguments of their command."""
    heads = layers("head.mlp.0", "head.last_layer")
    teacher = prefixed("backbone.", state) | heads
    student = prefixed("module.", copy("backbone.", state) | heads)
    return {"student": student, "teacher": teacher, "epoch": 100, "args": Namespace(arch="vit_small")}


def lightly(state: State) -> object:
    inside = prefixed("backbone.", state) | copy("backbone_momentum.", state)
    return inside | layers(
        "projection_head.layers.0", "projection_head_momentum.layers.0", "prediction_head.layers.0"
    )


def lightly_dino(state: State) -> object:
    both = prefixed("teacher_backbone.", state) | copy("student_backbone.", state)
    return {"state_dict": both | layers("student_head.layers.0", "teacher_head.layers.0"), "epoch": 3}


def solo_learn(state: State) -> object:
    inside = prefixed("backbone.", state) | copy("momentum_backbone.", state) | {"queue": torch.ones(2, 4)}
    heads = layers("projector.0", "momentum_projector.0", "predictor.0", "classifier", "momentum_classifier")
    return {"state_dict": inside | heads, "epoch": 3, "pytorch-lightning_version": "2.1.2"}


def older_solo_learn(state: State) -> object:
    return {"state_dict": prefixed("encoder.", state) | layers("projector.0", "classifier")}


def mae(state: State) -> object:
    """As it was pretrained, with its decoder."""
    rest = {"mask_token": torch.ones(1, 1, 64), "decoder_pos_embed": torch.ones(1, 101, 32)}
    return {
        "model": state | rest | layers("decoder_embed", "decoder_blocks.0.norm1", "decoder_norm", "decoder_pred")
    }


def ijepa(state: State) -> object:
    teacher = prefixed("module.", state)
    return {"encoder": copy("module.", state), "predictor": {}, "target_encoder": teacher, "opt": {}, "epoch": 300}


def classified(state: State) -> object:
    """A network of timm with its classifier, compiled and trained by several processes."""
    return {"model": prefixed("module._orig_mod.", state | layers("head" if "cls_token" in state else "fc"))}


EITHER = (moco_v2, moco_v3, dino, lightly, lightly_dino, solo_learn, older_solo_learn, classified)
LAYOUTS: list[tuple[NetworkModel, Callable[[State], object]]] = [
    *((ENCODER, layout) for layout in EITHER),
    *((VIT, layout) for layout in (*EITHER, mae, ijepa)),
    (ENCODER, lambda state: lightly(numbered(state))),
    (ENCODER, numbered),
]


def network(encoder: ImageEncoder) -> nn.Module:
    return encoder.get_submodule("network") if isinstance(encoder.params, Timm) else encoder


def same(a: ImageEncoder, b: ImageEncoder) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("suffix", ["pth", "pth.tar", "ckpt", "bin"])
def test_every_usual_ending_is_read(suffix: str, tmp_path: Path) -> None:
    donor, encoder = build_encoder(ENCODER, 7), build_encoder(ENCODER, 0)
    torch.save(moco_v2(donor.state_dict()), tmp_path / f"a.{suffix}")
    initialise(encoder, str(tmp_path / f"a.{suffix}"))
    assert same(encoder, donor)


@pytest.mark.parametrize(("params", "layout"), LAYOUTS)
def test_an_encoder_is_found_in_a_checkpoint(
    params: NetworkModel, layout: Callable[[State], object], tmp_path: Path
) -> None:
    donor, encoder = build_encoder(params, 7), build_encoder(params, 0)
    torch.save(layout(dict(network(donor).state_dict())), tmp_path / "checkpoint.pth")
    origin = initialise(encoder, str(tmp_path / "checkpoint.pth"))
    assert same(encoder, donor)
    assert (origin.source, origin.labels) == ("file", "unknown")
    assert encoder.origin == origin


def test_what_stands_beside_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    state = dict(build_encoder(ENCODER, 0).state_dict())
    found = solo_learn(state)
    assert isinstance(found, dict)
    with caplog.at_level(logging.INFO):
        assert set(inner(found["state_dict"], set(state))) == set(state)
    assert "left out: momentum_backbone.conv1.weight" in caplog.text


def test_dinov2s_own_names_give_the_features_of_timms(tmp_path: Path) -> None:
    """With registers, the authors add a position to the class token; timm has added it already."""
    donor, encoder = build_encoder(DINOV2, 7), build_encoder(DINOV2, 0)
    with torch.no_grad():
        for name, tensor in donor.named_parameters():
            if "gamma" in name or "token" in name or "pos_embed" in name:
                tensor.normal_()
    state = dict(network(donor).state_dict())
    first = torch.randn(1, 1, donor.dim)
    state["pos_embed"] = torch.cat([first, state["pos_embed"]], dim=1)
    state["cls_token"] = state["cls_token"] - first
    state["register_tokens"] = state.pop("reg_token")
    state["mask_token"] = torch.ones(1, donor.dim)
    torch.save(state, tmp_path / "dinov2_vits14_reg4_pretrain.pth")
    initialise(encoder, str(tmp_path / "dinov2_vits14_reg4_pretrain.pth"))
    x = torch.randn(2, 3, 56, 56)
    torch.testing.assert_close(encoder.eval()(x), donor.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "network."])
def test_positions_of_another_grid_are_interpolated(
    prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = build_encoder(VIT, 0)
    state = dict(network(build_encoder(VIT, 7)).state_dict())
    state["pos_embed"] = torch.randn(1, 1 + 14 * 14, 64)  # of 224 px; the network's are of 160
    torch.save(prefixed(prefix, state), tmp_path / "a.pth")
    with caplog.at_level(logging.INFO):
        initialise(encoder, str(tmp_path / "a.pth"))
    assert "interpolated to the network's grid: pos_embed" in caplog.text
    expected = resample_abs_pos_embed(state["pos_embed"], [10, 10])
    torch.testing.assert_close(network(encoder).get_parameter("pos_embed").detach(), expected)
    assert torch.equal(
        network(encoder).get_parameter("blocks.0.attn.qkv.weight"), state["blocks.0.attn.qkv.weight"]
    )


@pytest.mark.parametrize("change", ["missing", "shape", "more"])
def test_what_does_not_fit_a_network_of_timm_is_named(change: str, tmp_path: Path) -> None:
    encoder = build_encoder(VIT, 0)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    state = dict(network(build_encoder(VIT, 7)).state_dict())
    if change == "missing":
        del state["blocks.3.norm1.bias"], state["norm.weight"]
    elif change == "shape":
        state["blocks.2.mlp.fc1.weight"] = torch.ones(4, 64)
    else:
        state |= layers("blocks.6.norm1", "blocks.6.norm2")
    said = {
        "missing": r"missing: blocks\.3\.norm1\.bias, norm\.weight; does base\.encoder",
        "shape": r"shape: blocks\.2\.mlp\.fc1\.weight \(\(4, 64\), in base\.encoder \(192, 64\)\); does",
        "more": r"not in base\.encoder: blocks\.6\.norm1\.weight, .* and 1 more; does",
    }[change]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=said) as caught:
        initialise(encoder, str(tmp_path / "a.pth"))
    assert str(tmp_path / "a.pth") in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


@pytest.mark.parametrize(
    "name", ["test_vit2", "test_vit3", "test_vit4", "test_convnext2", "test_resnet", "test_mambaout"]
)
def test_networks_of_timm_with_their_own_pooling_and_classifier(name: str, tmp_path: Path) -> None:
    """What they have behind their features, such as attention pooling, is left out."""
    torch.manual_seed(7)
    whole, encoder = timm.create_model(name), build_encoder(Timm(kind="timm", name=name), 0)
    torch.save(whole.state_dict(), tmp_path / "a.pth")
    initialise(encoder, str(tmp_path / "a.pth"))
    published = {k.replace("fc_norm.", "norm."): v for k, v in whole.state_dict().items()}
    inside = network(encoder).state_dict()
    assert all(torch.equal(tensor, published[name]) for name, tensor in inside.items())


def test_our_own_encoder_keeps_what_is_known_of_it(tmp_path: Path) -> None:
    donor = build_encoder(VIT, 7)
    for kind, labels in (("simclr", "no"), ("supervised", "yes")):
        save_encoder(tmp_path / kind, donor, Making(32, method=kind, description={"kind": kind}))
        encoder = build_encoder(VIT, 0)
        origin = initialise(encoder, str(tmp_path / kind / "encoder.safetensors"))
        assert same(encoder, donor)
        assert (origin.labels, len(origin.sha256)) == (labels, 64)
