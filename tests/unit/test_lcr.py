"""LCR: where its loss looks, the branch that is fitted to it, and features that do not depend on batch mates."""

import math

import pytest
import torch
from torch import Tensor

from discern.images.views import Augment
from discern.methods.pretext.lcr import AttendedEncoder, LCRObjective, divergence, per_image
from discern.models.build import build_encoder
from discern.models.making import Making
from discern.models.weights import load_encoder, save_encoder
from discern.params.encoder import Attended
from discern.params.pipeline import Params
from discern.training.objective import Batch
from tests.methods import ENCODER, objective

SIZE, IMAGES = 32, 12


@pytest.fixture
def lcr() -> LCRObjective:
    built = objective("lcr", 40, SIZE)
    assert isinstance(built, LCRObjective)
    return built


@pytest.fixture
def batch() -> Batch:
    images = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    return Batch(images.to(torch.uint8), torch.arange(IMAGES), 0, 0, 10)


@pytest.fixture
def augment(params: Params) -> Augment:
    return Augment(params.base.views, SIZE, 0)


def scaled(m: Tensor) -> Tensor:
    return (m - m.min()) / (m.max() - m.min())


def test_terms_are_those_of_a_loop_over_images(lcr: LCRObjective, batch: Batch, augment: Augment) -> None:
    lcr.eval()
    terms = lcr(batch, augment)
    x1, x2 = (augment(batch.images, batch.index, 0, view) for view in (0, 1))
    feature_map = lcr.encoder.encoder.feature_map(x1)
    feature_map.retain_grad()
    loss = lcr.method.contrast(feature_map.mean((2, 3)), lcr.method.target(x2))
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]
    assert feature_map.grad is not None
    assert float(terms.parts["contrastive"].detach()) == pytest.approx(float(loss.detach()), abs=1e-6)
    total = 0.0
    for f, g in zip(feature_map, feature_map.grad, strict=True):  # (D, H', W')
        rationale = scaled(sum(a * b for a, b in zip(f, g, strict=True)).relu())
        attention = scaled(lcr.encoder.branch(f[None])[0].amax(0))
        p, q = rationale.flatten().softmax(0), attention.flatten().softmax(0)
        total += sum(float(a * math.log(a / b)) for a, b in zip(p.tolist(), q.tolist(), strict=True)) / IMAGES
    assert float(terms.parts["fitting"].detach()) == pytest.approx(total, abs=1e-6)
    assert float(terms.loss.detach()) == pytest.approx(float(loss.detach()) + 0.01 * total, abs=1e-5)


def test_the_fit_trains_the_branch_and_not_its_own_target(
    lcr: LCRObjective, batch: Batch, augment: Augment
) -> None:
    lcr.weight = 0.0
    lcr(batch, augment).loss.backward()
    branch = lcr.encoder.get_parameter("branch.0.weight")
    assert branch.grad is not None
    assert branch.grad.abs().max() == 0
    lcr.weight = 1.0
    terms = lcr(batch, augment)
    terms.parts["fitting"].backward()
    assert branch.grad.abs().max() > 0
    assert all(p.grad is None or not p.grad.isnan().any() for p in lcr.parameters())


def test_divergence_falls_when_the_branch_alone_learns(lcr: LCRObjective, batch: Batch, augment: Augment) -> None:
    optimizer = torch.optim.Adam(lcr.encoder.branch.parameters(), lr=0.02)
    fits = []
    for _ in range(25):
        fit = lcr(batch, augment).parts["fitting"]
        optimizer.zero_grad()
        fit.backward()
        optimizer.step()
        fits.append(float(fit.detach()))
    assert fits[-1] < 0.8 * fits[0]


def test_divergence_of_equal_maps_is_zero() -> None:
    maps = torch.rand(3, 4, 5)
    assert float(divergence(maps, maps)) == pytest.approx(0, abs=1e-6)


def test_an_even_map_becomes_zero() -> None:
    assert torch.equal(per_image(torch.full((2, 3, 3), 7.0)), torch.zeros(2, 3, 3))


def test_features_are_weighed_pooled_and_independent_of_batch_mates() -> None:
    encoder = build_encoder(Attended(kind="attended", encoder=ENCODER, projections=4), seed=0).eval()
    assert isinstance(encoder, AttendedEncoder)
    x = torch.randn(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    y = encoder(x)
    inner = encoder.encoder.feature_map(x)
    by_hand = (inner * encoder.attention(inner)[:, None]).mean((2, 3))
    torch.testing.assert_close(y, by_hand)
    torch.testing.assert_close(encoder(x[:1]), y[:1], atol=1e-6, rtol=1e-4)
    assert not torch.allclose(y, inner.mean((2, 3)))


def test_what_is_kept_comes_back_from_disk(lcr: LCRObjective, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("encoder")
    save_encoder(folder, lcr.encoder, Making(SIZE))
    x = torch.randn(2, 3, SIZE, SIZE)
    torch.testing.assert_close(load_encoder(folder)(x), lcr.encoder.eval()(x))
