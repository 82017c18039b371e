"""Fine-tuning: what moves, what does not, and that it helps."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discern.evaluation import finetune
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.params.base import Base
from discern.params.encoder import Attended, ResNet, Timm
from discern.params.evaluation import Finetune
from discern.params.load import load

CPU = torch.device("cpu")
SIZE = 16
RESNET = ResNet(kind="resnet18", width=8, stem="small_images")
VIT = Timm(kind="timm", name="test_vit")
PARAMS = Finetune(
    layers="all", epochs=12, lr=0.05, head_lr=0.1, batch_size=30, weight_decay=0.0, seed=0
)  # fmt: skip


@pytest.fixture(scope="module")
def base() -> Base:
    found = load(Path(__file__).parents[2] / "params.yaml").base
    views = found.views.model_copy(update={"jitter": 0.0, "grayscale": 0.0, "crop_area": (0.8, 1.0)})
    return found.model_copy(update={"precision": "fp32", "views": views})


def stripes(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes are directions of stripes under noise: a texture, not a colour."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    y, x = np.mgrid[:SIZE, :SIZE]
    waves = np.stack([np.sin(x * 1.5), np.sin(y * 1.5), np.sin((x + y) * 1.1)])[labels]  # (n,S,S)
    images = 128 + 30 * waves[..., None] + 25 * rng.normal(size=(n, SIZE, SIZE, 3))
    return images.clip(0, 255).astype(np.uint8), labels


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_improves_a_random_encoder_and_leaves_it_to_the_bit(base: Base) -> None:
    encoder = build_encoder(RESNET, seed=0)
    encoder.eval()
    before, needed = state(encoder), [p.requires_grad for p in encoder.parameters()]
    train, test = stripes(90, 0), stripes(60, 1)

    def accuracy(params: Finetune) -> float:
        named = finetune.predict(encoder, train, test[0], params, base, CPU)
        assert named is not None
        return float((named == test[1]).mean())

    # At rate 0 the encoder stands still but for its statistics: what its features are worth.
    untrained = accuracy(PARAMS.model_copy(update={"layers": "last_stage", "lr": 1e-12}))
    trained = accuracy(PARAMS)
    assert trained > max(untrained, 0.8)
    assert trained == accuracy(PARAMS), "deterministic"
    after = encoder.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert [p.requires_grad for p in encoder.parameters()] == needed
    assert all(p.grad is None for p in encoder.parameters())
    assert not any(module.training for module in encoder.modules())


def tuned(encoder: ImageEncoder, base: Base, layers: str) -> dict[str, bool]:
    """Which entries of the state changed in training."""
    moving = encoder if layers == "all" else finetune.last_stage(encoder)
    assert moving is not None
    before = state(encoder)
    assert finetune.free(encoder, moving)
    images, labels = stripes(60, 0)
    params = PARAMS.model_copy(update={"epochs": 1})
    head = nn.Linear(encoder.dim, 3)
    finetune.fit(encoder, moving, head, images, np.arange(60), labels, params, base, CPU)
    return {name: not torch.equal(before[name], value) for name, value in encoder.state_dict().items()}


def test_frozen_parts_and_their_statistics_stay(base: Base) -> None:
    changed = tuned(build_encoder(RESNET, seed=0), base, "last_stage")
    assert any("running_mean" in name for name in changed)
    for name, moved in changed.items():
        assert moved == name.startswith("layer4."), name
    assert all(tuned(build_encoder(RESNET, seed=0), base, "all").values())


def test_last_stage_of_every_network(base: Base) -> None:
    vit = build_encoder(VIT, seed=0)
    moved = {name for name, yes in tuned(vit, base, "last_stage").items() if yes}
    assert moved
    assert all(name.startswith(("network.blocks.5.", "network.norm.")) for name in moved)
    wrapped = build_encoder(Attended(kind="attended", encoder=RESNET, projections=4), seed=0)
    assert finetune.last_stage(wrapped) is dict(wrapped.named_modules())["encoder.layer4"]
    wrapped = build_encoder(Attended(kind="attended", encoder=VIT, projections=4), seed=0)
    assert last_stage_names(wrapped) == {"encoder.network.blocks.5", "encoder.network.norm"}
    plain = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4), nn.ReLU())
    assert finetune.last_stage(plain) is plain[1]
    assert finetune.last_stage(nn.Sequential(nn.ReLU())) is None


def last_stage_names(encoder: ImageEncoder) -> set[str]:
    """Names of the parts that `last_stage` trains together."""
    stage = finetune.last_stage(encoder)
    assert isinstance(stage, nn.ModuleList)
    return {name for name, module in encoder.named_modules() if any(module is part for part in stage)}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("test_resnet", {"layer4"}),
        ("test_efficientnet", {"blocks.4", "conv_head", "bn2"}),
        ("test_convnext", {"stages.3"}),  # its head's normalisation comes after the feature map
        ("test_nfnet", {"stages.3", "final_conv"}),
    ],
)
def test_last_stage_of_timms_networks(name: str, parts: set[str]) -> None:
    encoder = build_encoder(Timm(kind="timm", name=name), seed=0)
    assert last_stage_names(encoder) == {f"network.{part}" for part in parts}


def test_unlabelled_rows_are_left_out_and_only_shown_classes_named(base: Base) -> None:
    images, labels = stripes(60, 0)
    some = np.where(labels == 1, -1, labels)
    params = PARAMS.model_copy(update={"epochs": 1})
    named = finetune.predict(build_encoder(RESNET, seed=0), (images, some), images, params, base, CPU)
    assert named is not None
    assert set(named) <= {0, 2}


@pytest.mark.parametrize("layers", ["last_stage", "all"])
def test_an_encoder_without_weights_has_nothing_to_train(base: Base, layers: str) -> None:
    class Mean(ImageEncoder):
        dim = 3

        def feature_map(self, x: Tensor) -> Tensor:
            return x

    images, labels = stripes(30, 0)
    params = PARAMS.model_copy(update={"layers": layers})
    assert finetune.predict(Mean(), (images, labels), images, params, base, CPU) is None


def test_batches_are_whole_and_hold_every_image_once() -> None:
    params = PARAMS.model_copy(update={"epochs": 2})
    steps = list(finetune.batches(95, 30, params))
    assert [epoch for epoch, _ in steps] == [0, 0, 0, 1, 1, 1]
    first = torch.cat([rows for epoch, rows in steps if epoch == 0])
    assert len(set(first.tolist())) == 90
    assert not torch.equal(steps[0][1], steps[3][1])
