"""Losses between two views against loop-written references, other libraries, and their chance level."""

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightly.loss import DINOLoss, NTXentLoss
from pytorch_metric_learning.losses import NTXentLoss as PMLNTXentLoss

from discern.errors import DataError, ParamsError
from discern.methods.build import build_two_view
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.methods.parts.queue import QueueContrast, info_nce
from discern.methods.two_view.dino import DINOMethod
from discern.models.build import build_encoder
from discern.params.floors import Floor
from discern.params.methods import kinds
from discern.params.two_view import TwoView
from tests.methods import ENCODER, METHODS, SMALL, small
from tests.unit.references import REFERENCES

SIMCLR, MOCO = METHODS["simclr"], small("moco", queue=24)
KINDS = pytest.mark.parametrize("kind", METHODS)


def build(params: Any, images: int = 64) -> JointEmbedding:
    return build_two_view(params, build_encoder(ENCODER, 0), images, seed=0)


def pictures(n: int, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_every_kind_that_trains_has_small_parameters_for_these_tests() -> None:
    assert set(SMALL) == set(kinds()) - set(kinds(Floor))
    assert set(REFERENCES) == set(kinds(TwoView))


@KINDS
def test_loss_and_gradient_are_those_of_the_papers_formula(kind: str) -> None:
    method = build(METHODS[kind]).double().eval()
    for buffer in ("centre",):  # where there is one, it should matter
        if buffer in dict(method.named_buffers()):
            method.get_buffer(buffer).normal_(generator=torch.Generator().manual_seed(1))
    reference = copy.deepcopy(method) if kind != "dino" else method
    x1, x2 = pictures(5).double(), pictures(5, seed=1).double()
    weight = "encoder.layer4.1.conv2.weight"
    loss = method(x1, x2).loss
    (gradient,) = torch.autograd.grad(loss, method.get_parameter(weight))
    expected = REFERENCES[kind](reference, reference.encoder(x1), reference.encoder(x2))
    (by_hand,) = torch.autograd.grad(expected, reference.get_parameter(weight))
    torch.testing.assert_close(loss, expected, atol=1e-6, rtol=1e-6, check_dtype=False)
    torch.testing.assert_close(gradient, by_hand, atol=1e-6, rtol=1e-5)


@KINDS
def test_contrast_is_one_direction_of_the_loss(kind: str) -> None:
    method = build(METHODS[kind]).double().eval()
    x1, x2 = pictures(5).double(), pictures(5, seed=1).double()
    ways = [float(method.contrast(method.encoder(a), method.target(b)).detach()) for a, b in ((x1, x2), (x2, x1))]
    expected = ways[0] if kind == "moco" else sum(ways) / 2  # MoCo's queries are the first views only
    assert float(method(x1, x2).loss.detach()) == pytest.approx(expected, abs=1e-6)


def test_nt_xent_agrees_with_pytorch_metric_learning() -> None:
    z = torch.randn(2, 32, 128, generator=torch.Generator().manual_seed(0))
    theirs = PMLNTXentLoss(temperature=0.5)(z.flatten(0, 1), torch.arange(32).repeat(2))
    assert float(NTXentLoss(0.5)(*z)) == pytest.approx(float(theirs), abs=1e-5)


def test_dino_agrees_with_lightly_over_steps_that_move_the_centre() -> None:
    method = build(METHODS["dino"]).train()
    assert isinstance(method, DINOMethod)
    p = method.params
    oracle = DINOLoss(
        p.dim, p.teacher_temperature, p.teacher_temperature, 1, p.student_temperature, p.centre_momentum
    )
    for step in range(3):
        x1, x2 = pictures(6, seed=step), pictures(6, seed=step + 10)
        loss = method(x1, x2).loss
        (targets,) = method._outputs
        with torch.no_grad():
            students = method.head(method.encoder(torch.cat([x1, x2])))
        theirs = oracle(list(targets.chunk(2)), list(students.chunk(2)))
        assert float(loss.detach()) == pytest.approx(float(theirs), abs=1e-5)
        method.after_step()
        torch.testing.assert_close(method.centre, oracle.center.flatten())


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


@pytest.mark.parametrize("kind", ["simclr", "moco"])
def test_chance_of_a_contrastive_loss_is_that_of_identical_images(kind: str) -> None:
    method = build(METHODS[kind]).eval()
    y = torch.randn(1, method.encoder.dim).expand(8, -1)
    target = y
    if isinstance(method, QueueContrast):
        target = F.normalize(method.key_projector(y))
        method.queue.copy_(target[:1].expand_as(method.queue))
    assert float(method.contrast(y, target).detach()) == pytest.approx(method.chance(8), abs=1e-5)


def test_chance_of_vicreg_is_that_of_one_point_and_of_barlow_twins_that_of_unrelated_embeddings() -> None:
    vicreg, barlow = build(METHODS["vicreg"]), build(METHODS["barlow_twins"])
    same = torch.ones(2, 8, 16)
    assert float(vicreg._loss(same.flatten(0, 1))) == pytest.approx(vicreg.chance(8))  # type: ignore[operator]
    z = torch.randn(20_000, 16, generator=torch.Generator().manual_seed(0)).view(-1, 2 * 50, 16)
    losses = [float(barlow._loss(pair)) for pair in z]  # type: ignore[operator]
    assert sum(losses) / len(losses) == pytest.approx(barlow.chance(50), rel=0.02)


def test_chance_of_predictions_is_that_of_unrelated_vectors() -> None:
    a, b = torch.randn(2, 4000, 64, generator=torch.Generator().manual_seed(0))
    for kind in ("simsiam", "byol"):
        method = build(METHODS[kind])
        assert float(method._distance(a, b)) == pytest.approx(method.chance(8), abs=0.01)  # type: ignore[operator]


@KINDS
def test_starts_near_chance_and_falls_on_a_fixed_batch(kind: str) -> None:
    method = build(METHODS[kind]).train()
    x1, other, noise = torch.randn(3, 16, 3, 16, 16, generator=torch.Generator().manual_seed(0)).unbind()
    for step in range(2):  # a queue starts with random directions, a centre at 0: let them see images
        method(pictures(16, seed=step + 2), pictures(16, seed=step + 4))
        method.after_step()
    first = float(method(x1, other).loss.detach())
    assert first == pytest.approx(method.chance(16), rel=0.35, abs=0.35)
    x2 = x1 + noise
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(40):
        loss = method(x1, x2).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))  # queues and momentum encoders stay: the same task at every step
    assert losses[-1] < losses[0] - 0.25 * max(1.0, abs(losses[0]))


@KINDS
def test_forward_gives_features_in_the_graph_and_unit_embeddings(kind: str) -> None:
    method = build(METHODS[kind]).train()
    x = pictures(4)
    contrast = method(x, x.flip(3))
    torch.testing.assert_close(contrast.embedding.norm(dim=1), torch.ones(4))
    contrast.features.sum().backward()  # what a reconstruction loss does
    assert contrast.features.shape == (4, method.encoder.dim)
    gradient = method.encoder.get_parameter("conv1.weight").grad
    assert gradient is not None
    assert gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("kind", "follower"), [("byol", "key_encoder"), ("dino", "teacher"), ("moco", "key_encoder")]
)
def test_a_momentum_encoder_follows_without_gradient(kind: str, follower: str) -> None:
    method = build(METHODS[kind])
    name = f"{follower}.module.conv1.weight"
    old = method.get_parameter(name).clone()
    with torch.no_grad():
        method.encoder.get_parameter("conv1.weight").add_(1.0)
    method.after_step()
    torch.testing.assert_close(method.get_parameter(name), old + 0.1)
    assert not any(p.requires_grad for p in method.get_submodule(follower).parameters())


def test_moco_queue_takes_this_steps_keys_over_the_oldest_and_wraps() -> None:
    method = build(MOCO).train()
    assert isinstance(method, QueueContrast)
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


def test_a_queue_longer_than_the_data_is_refused_or_asked_for() -> None:
    with pytest.raises(ParamsError, match="queue = 24 is longer than the training set"):
        build(MOCO, images=20)
    build(MOCO.model_copy(update={"allow_long_queue": True}), images=20)


def test_one_image_cannot_be_contrasted() -> None:
    with pytest.raises(DataError, match="at least 2 training images, found 1"):
        build(SIMCLR, images=1)
