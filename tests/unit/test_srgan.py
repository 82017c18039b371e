"""SRGAN: networks against the paper's, losses against an alternating reference, and what it leaves behind."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.errors import DownloadError, ParamsError
from discern.evaluation.finetune import last_stage
from discern.evaluation.large_head import large_head
from discern.images.packed import PackedSplit
from discern.images.views import Augment, denormalise, normalise
from discern.methods.build import Setup, build
from discern.methods.pretext.srgan.networks import (
    DiscriminatorEncoder,
    GeneratorEncoder,
    Verdict,
    bicubic,
    downscale,
    signed,
)
from discern.methods.pretext.srgan.objective import SRGANObjective, geometric
from discern.models.build import build_encoder
from discern.models.making import Making
from discern.models.weights import load_encoder, save_encoder
from discern.params.encoder import SRGANDiscriminator, SRGANGenerator
from discern.params.evaluation import LargeHead
from discern.params.floors import SRGANUntrained
from discern.params.pipeline import Params
from discern.params.pretext import VGGContent
from discern.settings import settings
from discern.training.objective import Batch
from tests.methods import ENCODER, small

CPU = torch.device("cpu")
SIZE, STEPS = 16, 10
PIXELS = np.random.default_rng(0).integers(0, 256, (12, SIZE, SIZE, 3), dtype=np.uint8)
SECOND_STAGE = STEPS - 1
NAMES = {"low", "bicubic", "restored", "original"}
HEAD = LargeHead(hidden=32, dropouts=[0.0, 0.5], epochs=12, lr=1e-2, batch_size=8, seed=0)


def objective(size: int = SIZE, **changes: Any) -> SRGANObjective:
    built = build(small("srgan", **{"mse_share": 0.5, **changes}), Setup(build_encoder(ENCODER, 0), 12, 0, size))
    assert isinstance(built, SRGANObjective)
    return built


def batch(step: int) -> Batch:
    images = torch.from_numpy(PIXELS[:8]).permute(0, 3, 1, 2)
    return Batch(images, torch.arange(8), epoch=0, step=step, steps=STEPS)


class Double(Augment):
    def __call__(self, images: Tensor, index: Tensor, epoch: int, view: int) -> Tensor:
        return super().__call__(images, index, epoch, view).double()


@pytest.fixture
def augment(params: Params) -> Augment:
    return Augment(params.base.views, SIZE, 0)


@pytest.fixture
def double(params: Params) -> Augment:
    return Double(params.base.views, SIZE, 0)


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_networks_are_of_the_papers_shapes_and_sizes() -> None:
    generator = build_encoder(SRGANGenerator(kind="srgan_generator", channels=64, blocks=16), 0)
    discriminator = build_encoder(SRGANDiscriminator(kind="srgan_discriminator", width=64), 0)
    assert isinstance(generator, GeneratorEncoder)
    assert isinstance(discriminator, DiscriminatorEncoder)
    low, x = torch.rand(2, 3, 24, 24), torch.randn(2, 3, 96, 96)
    assert generator.restore(generator.trunk(low)).shape == x.shape
    assert generator.feature_map(x).shape == (2, 64, 24, 24)
    assert discriminator.feature_map(x).shape == (2, 512, 6, 6)
    shapes = [m.weight.shape[:2] + m.stride[:1] for m in discriminator.body if isinstance(m, nn.Conv2d)]
    assert [(out, stride) for out, _, stride in shapes] == [
        (64, 1), (64, 2), (128, 1), (128, 2), (256, 1), (256, 2), (512, 1), (512, 2),
    ]  # fmt: skip
    verdict = Verdict(512, 96)
    assert verdict(discriminator.feature_map(x)).shape == (2,)
    # By hand: 9x9 convolutions, 33 3x3 ones with batch normalisation, two to 256 channels, 19 PReLUs.
    nines, trunk, up = 3 * 64 * 81 + 64 + 64 * 3 * 81 + 3, 33 * (64 * 64 * 9 + 128), 2 * (64 * 256 * 9 + 256)
    assert count(generator) == nines + trunk + up + 19 == 1_547_350
    dense = 512 * 36 * 1024 + 1024 + 1024 + 1
    assert count(verdict) == dense
    pairs = [(64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    assert count(discriminator) == 3 * 64 * 9 + 64 + sum(9 * a * b + 2 * b for a, b in pairs) == 4_687_232


@pytest.mark.parametrize(("size", "pooled"), [(16, 1), (64, 4), (96, 6), (224, 6)])
def test_the_dense_layers_see_at_most_six_by_six(size: int, pooled: int) -> None:
    verdict = Verdict(8, size)
    assert verdict.dense[0].in_features == 8 * pooled**2
    assert verdict(torch.rand(2, 8, size // 16, size // 16)).shape == (2,)


def test_the_generators_features_see_the_image_as_its_training_did() -> None:
    encoder = build_encoder(small("srgan").generator, 0).eval()
    assert isinstance(encoder, GeneratorEncoder)
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255
    expected = encoder.trunk(downscale(images))
    torch.testing.assert_close(encoder.feature_map(normalise(images)), expected, rtol=1e-4, atol=1e-5)
    assert last_stage(encoder) is encoder.tail  # not a layer that features never pass


def test_views_keep_their_colours(augment: Augment, params: Params) -> None:
    crops = params.base.views.model_copy(update={"crop_area": (1.0, 1.0), "flip": 0.0})
    same = geometric(Augment(crops, SIZE, 0, torch.bfloat16))
    b = batch(0)
    shown = denormalise(same(b.images, b.index, 0, 0))
    # A crop of the whole area still has another aspect ratio than the image, or none that fits.
    torch.testing.assert_close(shown.mean((2, 3)), (b.images / 255).mean((2, 3)), rtol=0, atol=1e-4)
    assert augment.views.jitter > 0


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("step", [0, SECOND_STAGE])
def test_gradients_are_those_of_alternating_networks(step: int, residual: bool, double: Augment) -> None:
    """The generator's with the discriminator's weights frozen, the discriminator's with the images cut off."""
    ours = objective(residual=residual, adversarial_weight=0.1).double()
    theirs = copy.deepcopy(ours)
    terms = ours(batch(step), double)
    terms.loss.backward()

    b = batch(step)
    x = denormalise(geometric(double)(b.images, b.index, 0, 0))
    low, original = downscale(x), 2 * x - 1
    generator, discriminator = theirs.generator, nn.Sequential(theirs.discriminator.body, theirs.verdict)
    restored = generator.restore(generator.trunk(low))
    restored = restored + signed(bicubic(low)) if residual else restored
    content = (restored - original).square().mean()
    second = step == SECOND_STAGE
    ones, zeros = torch.ones(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    adversarial = F.binary_cross_entropy(discriminator(restored).sigmoid(), ones)
    found = F.binary_cross_entropy(discriminator(original).sigmoid(), ones)
    found = found + F.binary_cross_entropy(discriminator(restored.detach()).sigmoid(), zeros)
    expected_g = torch.autograd.grad(content + second * 0.1 * adversarial, [*generator.parameters()])
    expected_d = torch.autograd.grad(second * found, [*discriminator.parameters()])
    found_d = [*ours.discriminator.parameters(), *ours.verdict.parameters()]
    for p, gradient in zip([*ours.generator.parameters(), *found_d], [*expected_g, *expected_d], strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, gradient, rtol=1e-6, atol=1e-9)
    expected = content + second * (0.1 * adversarial + found)
    torch.testing.assert_close(terms.loss, expected, rtol=1e-6, atol=1e-9)
    if second:
        torch.testing.assert_close(terms.parts["adversarial"], adversarial, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(terms.parts["discriminator"], found, rtol=1e-6, atol=1e-9)


def test_the_second_stage_begins_at_its_share_of_the_steps(augment: Augment) -> None:
    ours = objective(mse_share=0.3)
    judged = [float(ours(batch(step), augment).parts["discriminator"].detach()) > 0 for step in range(STEPS)]
    assert judged == [False] * 3 + [True] * 7


def test_every_parameter_takes_part_and_the_idle_discriminator_stays_as_it_is(augment: Augment) -> None:
    ours = objective()
    before = copy.deepcopy(ours.discriminator.state_dict())
    optimizer = torch.optim.Adam(ours.parameters(), lr=1e-2)
    ours(batch(0), augment).loss.backward()
    assert all(p.grad is not None for p in ours.parameters())
    optimizer.step()
    for name, value in ours.discriminator.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("share", "passes"), [(0.0, 3), (0.5, 2), (0.6, 2), (1.0, 1)])
def test_passes_are_the_mean_over_both_stages_rounded_up(share: float, passes: int) -> None:
    assert objective(mse_share=share).passes == passes


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_error_falls_on_a_fixed_batch(precision: torch.dtype, augment: Augment) -> None:
    ours = objective(features="discriminator", mse_share=0.8)
    optimizer = torch.optim.Adam(ours.parameters(), lr=3e-3)
    errors = []
    # Noise cannot be restored; what varies slowly can.
    smooth = bicubic(batch(0).images[:, :, ::4, ::4] / 255).clamp(0, 1).mul(255).to(torch.uint8)
    for step in range(40):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            terms = ours(replace(batch(step), steps=40, images=smooth), augment)
        terms.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        errors.append(float(terms.parts["content"].detach()))
        assert terms.loss.dtype == torch.float32
        torch.testing.assert_close(terms.embedding.norm(dim=1), torch.ones(8))
    assert errors[31] < 0.6 * errors[0]


@pytest.mark.parametrize("features", ["generator", "discriminator"])
def test_the_kept_encoder_comes_back_bit_for_bit(features: str, augment: Augment, tmp_path: Path) -> None:
    ours = objective(features=features)
    ours(batch(SECOND_STAGE), augment)  # moves running statistics
    assert ours.encoder is getattr(ours, features)
    save_encoder(tmp_path, ours.encoder, Making(SIZE))
    x = torch.randn(3, 3, SIZE, SIZE)
    loaded = load_encoder(tmp_path)
    assert torch.equal(loaded(x), ours.encoder.eval()(x))
    assert loaded(x).shape == (3, loaded.dim)


@pytest.mark.parametrize("features", ["generator", "discriminator"])
def test_the_untrained_control_is_where_training_starts(features: str) -> None:
    networks = {"features": features, "channels": 8, "blocks": 1, "width": 8}
    params = SRGANUntrained.model_validate({"kind": "srgan_untrained", **networks})
    control = build(params, Setup(build_encoder(ENCODER, 0), 12, 0, SIZE))
    for a, b in zip(control.parameters(), objective(features=features).encoder.parameters(), strict=True):
        assert torch.equal(a, b)


def test_sides_that_are_no_multiple_of_four_are_refused() -> None:
    with pytest.raises(ParamsError, match=r"pack\.image_size = 18: srgan downscales by 4"):
        objective(size=18)


def test_restored_images_and_their_figures_are_left_beside_the_encoder(tmp_path: Path) -> None:
    ours = objective(residual=True)
    with torch.no_grad():
        for p in ours.generator.conv3.parameters():
            p.zero_()  # adds nothing to bicubic upscaling
    images = np.random.default_rng(1).integers(0, 256, (300, SIZE, SIZE, 3), dtype=np.uint8)
    figures = ours.leave(tmp_path, images, CPU)
    saved = json.loads((tmp_path / "super_resolution.json").read_text())
    assert figures == {f"super_resolution.{name}": value for name, value in saved.items()}
    assert saved["images"] == 256
    for name in ("psnr", "ssim"):
        assert saved[name] == pytest.approx(saved[f"bicubic_{name}"], abs=1e-4)
    with np.load(tmp_path / "super_resolution.npz", allow_pickle=False) as arrays:
        assert set(arrays) == NAMES
        assert {arrays[name].shape for name in NAMES} == {(12, SIZE, SIZE, 3)}
        assert {arrays[name].dtype for name in NAMES} == {np.dtype(np.uint8)}
        assert (arrays["original"][0] == images[0]).all()
        assert (arrays["original"][-1] == images[-1]).all()
        assert (arrays["low"][:, :4, :4] == arrays["low"][:, :1, :1]).all()
        assert (abs(arrays["restored"].astype(int) - arrays["bicubic"]) <= 1).all()


def test_without_images_nothing_is_left(tmp_path: Path) -> None:
    assert objective().leave(tmp_path, PIXELS[:0], CPU) == {}
    assert not list(tmp_path.iterdir())


def test_vgg_weights_that_are_not_there_are_told_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vgg = {"kind": "vgg", "weight": 0.006}
    with pytest.raises(ParamsError, match=r"content\.weights: .*vgg\.pth: no such file"):
        objective(content={**vgg, "weights": str(tmp_path / "vgg.pth")})
    monkeypatch.setenv("DISCERN_OFFLINE", "true")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    settings.cache_clear()
    with pytest.raises(DownloadError, match=r"no such file, and DISCERN_OFFLINE is set"):
        objective(content={**vgg, "weights": "imagenet1k_v1"})
    settings.cache_clear()


@pytest.mark.slow
def test_vgg_distance_reaches_the_generator_and_no_checkpoint(tmp_path: Path, augment: Augment) -> None:
    from torchvision.models import vgg19

    from discern.methods.pretext.srgan.vgg import VGGDistance

    network = vgg19(weights=None)
    torch.save(network.state_dict(), tmp_path / "vgg.pth")
    weights = {"kind": "vgg", "weights": str(tmp_path / "vgg.pth"), "weight": 0.5}
    distance = VGGDistance(VGGContent.model_validate(weights))
    a, b = torch.rand(2, 2, 3, 32, 32).unbind()
    maps = [network.eval().features[:36](normalise(x)) for x in (a, b)]
    expected = 0.5 * (maps[0] - maps[1]).square().mean()
    torch.testing.assert_close(distance(signed(a), signed(b)), expected, check_dtype=False)
    ours = objective(content=weights)
    assert ours.state_dict().keys() == objective().state_dict().keys()
    ours(batch(SECOND_STAGE), augment).parts["content"].backward()
    assert ours.generator.conv1.weight.grad is not None


def split(seed: int, n: int) -> PackedSplit:
    """Two classes that a generator's trunk cannot but keep apart: dark and bright noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    images = rng.integers(0, 128, (n, SIZE, SIZE, 3)) + 127 * labels[:, None, None, None]
    return PackedSplit(images.astype(np.uint8), pd.DataFrame(), labels, ["dark", "bright"], None, "")


def test_the_large_head_learns_what_can_be_learned_and_chance_where_labels_are_random() -> None:
    encoder = build_encoder(small("srgan").generator, 0)
    before = copy.deepcopy(encoder.state_dict())
    train, val, test = split(0, 24), split(1, 12), split(2, 40)
    figures = large_head(encoder, train, val, test, HEAD, CPU, "fp32")
    assert figures == large_head(encoder, train, val, test, HEAD, CPU, "fp32")
    assert figures["top1"] == figures["balanced"] == 1
    assert {"top1_dropout0", "balanced_dropout50", "val_dropout50", "dropout"} < figures.keys()
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    shuffled = replace(train, labels=np.random.default_rng(3).permutation(train.labels))
    assert large_head(encoder, shuffled, val, test, HEAD, CPU, "fp32")["balanced"] < 0.9


def test_images_without_label_neither_teach_nor_score() -> None:
    encoder = build_encoder(small("srgan").generator, 0)
    train, test = split(0, 24), split(2, 40)
    hidden = replace(test, labels=np.where(np.arange(40) < 30, test.labels, -1))
    empty = replace(split(1, 2), images=PIXELS[:0], labels=np.zeros(0, np.int64))
    figures = large_head(encoder, train, empty, hidden, HEAD, CPU, "fp32")
    assert figures["top1"] == 1
    assert figures["dropout"] == 0
    assert "val_dropout0" not in figures
