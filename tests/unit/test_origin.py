"""What is known of weights: whether they saw labels, by timm's names, and what is kept beside an encoder."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import timm
from torch import nn

from discern.errors import ModelError
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.making import Making, read_making
from discern.models.origin import Labels, Origin, joined, labels_of
from discern.models.weights import load_encoder, save_encoder
from discern.params.encoder import NetworkModel
from tests.methods import ENCODER, small

NAMES: dict[Labels, tuple[str, ...]] = {
    "no": (
        "vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2.lvd142m", "vit_small_patch16_224.dino",
        "vit_small_patch16_dinov3.lvd1689m", "vit_large_patch16_dinov3.sat493m", "convnext_tiny.dinov3_lvd1689m",
        "vit_base_patch16_224.mae", "hiera_base_224.mae", "convnextv2_tiny.fcmae", "resmlp_12_224.fb_dino",
        "vit_huge_patch14_gap_224.in1k_ijepa", "vit_giant_patch16_gap_224.in22k_ijepa", "regnety_320.seer",
    ),
    "captions": (
        "vit_base_patch16_clip_224.openai", "vit_base_patch16_clip_224.laion2b", "resnet50_clip.yfcc15m",
        "vit_base_patch16_siglip_224.webli", "vit_base_patch16_siglip_224.v2_webli", "convnext_base.clip_laion2b",
        "convnext_large_mlp.clip_laion2b_ft_320", "vit_base_patch16_clip_224.metaclip_2pt5b",
        "vit_base_patch16_clip_224.datacompxl", "vit_base_patch16_clip_224.dfn2b", "fastvit_mci0.apple_mclip",
        "vit_pe_core_base_patch16_224.fb", "aimv2_large_patch14_224.apple_pt", "davit_base_fl.msft_florence2",
        # Their teachers are CLIPs.
        "eva02_base_patch14_224.mim_in22k", "eva02_large_patch14_224.mim_m38m", "convnext_base.eupe_lvd1689m",
        "naflexvit_base_patch16_radio_v3.c_radio",
    ),
    "yes": (
        "tf_efficientnet_lite0.in1k", "resnet50.a1_in1k", "resnet50.tv_in1k", "resnet50.tv2_in1k",
        "resnet50.fb_swsl_ig1b_ft_in1k", "vit_small_patch16_224.augreg_in21k",
        "deit3_small_patch16_224.fb_in22k_ft_in1k",
        "vit_base_patch16_clip_224.openai_ft_in1k", "vit_base_patch16_clip_224.laion2b_ft_in12k_in1k",
        "convnext_base.clip_laion2b_augreg_ft_in12k", "convnextv2_tiny.fcmae_ft_in1k",
        "convnextv2_tiny.fcmae_ft_in22k_in1k_384", "hiera_base_224.mae_in1k_ft_in1k",
        "eva02_base_patch14_448.mim_in22k_ft_in22k_in1k", "beit_base_patch16_224.in22k_ft_in22k",
        "regnety_320.seer_ft_in1k", "regnety_320.swag_ft_in1k", "vit_base_patch16_siglip_gap_512.webli_ft_in1k",
        "tf_efficientnet_b0.ns_jft_in1k", "swin_tiny_patch4_window7_224.ms_in22k", "davit_tiny.msft_in1k",
        "convnext_tiny.in12k", "hieradet_d_small.untrained_in1k", "test_vit.r160_in1k",
    ),
    "unknown": (
        "samvit_base_patch16.sa1b", "vit_base_patch16_sapiens2.fb", "vit_so400m_patch14_siglip_gap_224.pali_pt",
        "sam2_hiera_tiny.fb_r896",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "labels"), [(name, labels) for labels, names in NAMES.items() for name in names])
def test_timms_names_say_whether_weights_saw_labels(name: str, labels: Labels) -> None:
    assert labels_of(name) == labels


def test_whatever_was_trained_on_imagenets_labels_counts_as_such() -> None:
    """Of all that timm publishes, only these three ways of training see ImageNet's images without their labels."""
    without = ("ijepa", "mim_in22k", "mim_m38m")
    for name in timm.list_pretrained():
        tag = name.partition(".")[2]
        if any(f"in{size}k" in tag for size in (1, 12, 21, 22)) and not tag.endswith(without):
            assert labels_of(name) == "yes", name
        if labels_of(name) == "no":
            assert "_ft_" not in tag, name


def test_several_origins_are_joined_and_the_one_that_saw_most_counts() -> None:
    dino = Origin("a", "hub", "1", "x", "apache-2.0", "no")
    clip = Origin("b", "hub", "2", "y", "", "captions")
    assert joined([Origin(), dino, Origin(), dino]) == dino
    assert joined([Origin()]) == joined([]) == Origin()
    both = joined([dino, clip])
    assert both == Origin("a + b", "several", "1 + 2", "x + y", "apache-2.0 + ?", "captions")
    unlike = Origin("c", "file", labels="unknown")
    assert joined([clip, unlike]).labels == "unknown"
    assert joined([unlike, Origin("d", "package", labels="yes")]).labels == "yes"


class Pair(ImageEncoder):
    """Two encoders side by side."""

    def __init__(self, *encoders: ImageEncoder) -> None:
        super().__init__()
        self.inside = nn.ModuleList(encoders)


def test_an_encoder_of_encoders_has_their_origins() -> None:
    first, second = build_encoder(ENCODER, 0), build_encoder(ENCODER, 1)
    assert Pair(first, second).origin == Origin()
    second.given = Origin("b", "file", labels="unknown")
    assert Pair(first, second).origin == second.given


def test_tags_and_the_line_for_people() -> None:
    origin = Origin("timm/vit.dino", "hub", "c0ffee", "5a", "apache-2.0", "no")
    assert origin.tags() == {
        "weights": "timm/vit.dino", "weights.source": "hub", "weights.revision": "c0ffee", "weights.sha256": "5a",
        "weights.licence": "apache-2.0", "weights.labels": "no",
    }  # fmt: skip
    assert origin.described() == "`timm/vit.dino`, revision c0ffee, licence apache-2.0, saw labels: no"
    assert Origin().tags() == {"weights": "none", "weights.source": "none", "weights.labels": "no"}
    assert Origin().described() == "none"
    file = Origin("a.pth", "file", labels="unknown")
    assert file.tags()["weights.licence"] == "not stated"
    assert file.described() == "`a.pth`, licence not stated, saw labels: unknown"


@pytest.mark.parametrize(
    ("kept", "origin"),
    [
        ("none", Origin()),
        ("imagenet1k_v1", Origin("imagenet1k_v1", "torchvision", labels="yes")),
        ("some/file.pth", Origin("some/file.pth", "file", labels="unknown")),
        (asdict(Origin("a", "hub", "1", "x", "mit", "captions")), Origin("a", "hub", "1", "x", "mit", "captions")),
    ],
)
def test_what_encoder_json_says_is_read_whatever_its_age(kept: object, origin: Origin, tmp_path: Path) -> None:
    save_encoder(tmp_path, build_encoder(ENCODER, 0), Making(16))
    path = tmp_path / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights": kept}))
    assert read_making(tmp_path).weights == origin
    assert load_encoder(tmp_path).origin == origin


@pytest.mark.parametrize("kept", [3, {"nme": "a"}, {"labels": "perhaps"}, {"source": "somewhere"}])
def test_what_cannot_be_an_origin_is_refused(kept: object, tmp_path: Path) -> None:
    save_encoder(tmp_path, build_encoder(ENCODER, 0), Making(16))
    path = tmp_path / "encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights": kept}))
    for read in (read_making, load_encoder):
        with pytest.raises(ModelError, match=r"encoder\.json: .*; `dvc repro` writes it anew"):
            read(tmp_path)


def test_training_on_labels_counts_as_well_as_given_weights() -> None:
    def labels(description: dict[str, Any], origin: Origin = Origin()) -> Labels:  # noqa: B008  # frozen
        return Making(16, description=description, weights=origin).labels

    captions = Origin("a", "hub", labels="captions")
    assert labels({"kind": "simclr"}) == "no"
    assert labels({"kind": "simclr"}, captions) == "captions"
    assert labels({"kind": "supervised"}) == labels({"kind": "pmg"}, captions) == "yes"
    srgan: NetworkModel = small("srgan")
    assert labels(srgan.model_dump()) == "no"
    vgg = {"kind": "vgg", "weights": "imagenet1k_v1", "weight": 0.006}
    assert labels(small("srgan", content=vgg).model_dump()) == "yes"
