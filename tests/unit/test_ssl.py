"""Contrastive methods against loop-written references, their chance level, and the registry."""

import math

import pytest
import torch
import torch.nn.functional as F
from discern.ssl.simclr import SimCLRMethod
from lightly.loss import NTXentLoss

from discern.errors import DataError, ParamsError
from discern.models.encoder import build_encoder
from discern.params.encoder import ResNet
from discern.ssl.base import build_method
from discern.ssl.moco import MoCoMethod, info_nce
from tests.methods import METHODS

ENCODER = ResNet(kind="resnet18", width=8, stem="small_images")
SIMCLR, MOCO = METHODS["simclr"], METHODS["moco"]
ALL = list(METHODS.values())


def build(params: ContrastiveLoss, images: int = 64) -> SimCLRMethod | MoCoMethod:
    method = build_method(params, build_encoder(ENCODER, 0), images, seed=0)
    assert isinstance(method, SimCLRMethod | MoCoMethod)
    return method


def nt_xent_by_loop(a: torch.Tensor, b: torch.Tensor, temperature: float) -> float:
    z = [F.normalize(row, dim=0) for row in [*a, *b]]
    n, total = len(a), 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        terms = [math.exp(float(z[i] @ z[j]) / temperature) for j in range(2 * n) if j != i]
        total -= math.log(math.exp(float(z[i] @ z[partner]) / temperature) / sum(terms))
    return total / (2 * n)


def test_simclr_is_nt_xent_of_the_projected_features() -> None:
    method = build(SIMCLR).eval()
    assert isinstance(method, SimCLRMethod)
    y1, y2 = torch.randn(2, 6, method.encoder.dim).unbind()
    projected = method.projector(torch.cat([y1, y2])).detach()
    expected = nt_xent_by_loop(projected[:6], projected[6:], SIMCLR.temperature)
    assert float(method.contrast(y1, y2).detach()) == pytest.approx(expected, abs=1e-5)


def test_info_nce_against_a_loop_and_against_lightly() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (F.normalize(torch.randn(5, 8, generator=generator)) for _ in range(2))
    queue = F.normalize(torch.randn(12, 8, generator=generator))
    expected = 0.0
    for q, k in zip(query, key, strict=True):
        own = math.exp(float(q @ k) / 0.2)
        others = sum(math.exp(float(q @ negative) / 0.2) for negative in queue)
        expected -= math.log(own / (own + others)) / len(query)
    ours = info_nce(query, key, queue, 0.2)
    assert float(ours) == pytest.approx(expected, abs=1e-5)
    oracle = NTXentLoss(temperature=0.2, memory_bank_size=(12, 8))
    oracle.memory_bank.bank = queue.clone()
    assert float(ours) == pytest.approx(float(oracle(query, key)), abs=1e-5)


@pytest.mark.parametrize("params", ALL, ids=lambda p: p.kind)
def test_chance_is_the_loss_of_identical_images(params: ContrastiveLoss) -> None:
    method = build(params).eval()
    y = torch.randn(1, method.encoder.dim).expand(8, -1)
    if isinstance(method, MoCoMethod):
        target = method.key_projector(y)
        target = F.normalize(target)
        method.queue.copy_(target[:1].expand_as(method.queue))
    else:
        target = y
    assert float(method.contrast(y, target).detach()) == pytest.approx(method.chance(8), abs=1e-5)


@pytest.mark.parametrize("params", ALL, ids=lambda p: p.kind)
def test_starts_near_chance_and_falls_on_a_fixed_batch(params: ContrastiveLoss) -> None:
    method = build(params).train()
    generator = torch.Generator().manual_seed(0)
    x1, other, noise = torch.randn(3, 16, 3, 16, 16, generator=generator).unbind()
    for _ in range(2):  # MoCo's queue starts with random directions: fill it with keys of images
        method(*torch.randn(2, 16, 3, 16, 16, generator=generator).unbind())
        method.after_step()
    assert float(method(x1, other).loss.detach()) == pytest.approx(method.chance(16), rel=0.3)
    x2 = x1 + noise
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
    losses = []
    for _ in range(15):
        loss = method(x1, x2).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))  # MoCo's queue stays as it is: the same task at every step
    assert losses[-1] < 0.75 * losses[0]


@pytest.mark.parametrize("params", ALL, ids=lambda p: p.kind)
def test_forward_gives_features_in_the_graph_and_unit_embeddings(params: ContrastiveLoss) -> None:
    method = build(params).train()
    x = torch.randn(4, 3, 16, 16)
    contrast = method(x, x.flip(3))
    torch.testing.assert_close(contrast.embedding.norm(dim=1), torch.ones(4))
    contrast.features.sum().backward()  # what a reconstruction loss does
    assert contrast.features.shape == (4, method.encoder.dim)
    gradient = method.encoder.get_parameter("conv1.weight").grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_moco_queue_takes_this_steps_keys_over_the_oldest_and_wraps() -> None:
    method = build(MOCO).train()
    assert isinstance(method, MoCoMethod)
    before = method.queue.clone()
    keys = []
    for step in range(4):  # 4 x 8 keys into 24 places
        x = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        method(x, x)
        keys.extend(method._new_keys)
        torch.testing.assert_close(method.queue[16:], before[16:] if step < 3 else keys[2])
        method.after_step()
    torch.testing.assert_close(method.queue, torch.cat([keys[3], keys[1], keys[2]]))
    assert int(method.queue_start) == 8


def test_moco_key_encoder_follows_by_its_momentum_without_gradient() -> None:
    method = build(MOCO)
    assert isinstance(method, MoCoMethod)
    old = method.key_encoder.get_parameter("conv1.weight").clone()
    with torch.no_grad():
        method.encoder.get_parameter("conv1.weight").add_(1.0)
    method.after_step()
    torch.testing.assert_close(method.key_encoder.get_parameter("conv1.weight"), old + 0.1)
    assert not any(p.requires_grad for p in method.key_encoder.parameters())


def test_a_queue_longer_than_the_data_is_refused_or_asked_for() -> None:
    with pytest.raises(ParamsError, match="queue = 24 is longer than the training set"):
        build(MOCO, images=20)
    build(MOCO.model_copy(update={"allow_long_queue": True}), images=20)


def test_one_image_cannot_be_contrasted() -> None:
    with pytest.raises(DataError, match="at least 2 training images, found 1"):
        build(SIMCLR, images=1)


def test_registry_knows_every_kind_of_the_parameters() -> None:
    assert set(registered("loss")) == {"simclr", "moco"}
