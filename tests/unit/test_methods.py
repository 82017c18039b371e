"""What every kind of method must do, whatever is added later."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from discern.images.views import Augment
from discern.models.making import Making
from discern.models.weights import load_encoder, save_encoder
from discern.params.methods import kinds
from discern.params.model import TrainedMethod
from discern.params.pipeline import Params
from discern.training.objective import Batch
from discern.training.optimizers import Optimizers
from tests.methods import TRAINED, objective

SIZE, IMAGES = 16, 16
STEPS = 40


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (IMAGES, 3, 4, 4), generator=generator, dtype=torch.uint8)
    images = torch.nn.functional.interpolate(small, scale_factor=4, mode="nearest")  # smooth enough to be restored
    return Batch(images, torch.arange(IMAGES), 0, 0, STEPS)


@pytest.fixture
def augment(params: Params) -> Augment:
    views = params.base.views.model_copy(update={"crop_area": (0.8, 1.0)})
    return Augment(views, SIZE, 0)


@pytest.mark.parametrize("kind", kinds())
def test_says_in_one_line_what_it_is_and_describes_its_parameters(kind: str) -> None:
    method = kinds()[kind]
    assert 20 < len(method.about()) < 120
    assert importlib.import_module(method.built_by).build.__doc__
    undescribed = [
        name
        for name, field in method.model_fields.items()
        if name not in {"kind", "temperature", "corruption", "label_smoothing"} and not field.description
    ]
    assert undescribed == []


@pytest.mark.parametrize("kind", TRAINED)
def test_starts_near_chance_and_falls_on_a_fixed_batch(kind: str, batch: Batch, augment: Augment) -> None:
    ours = objective(kind, 40, SIZE).train()
    chance = ours.chance(IMAGES)
    for epoch in (1, 2):  # a queue starts with random directions, a centre at 0: let them see images
        ours(replace(batch, epoch=epoch), augment)
        ours.after_step()
    optimizer = torch.optim.Adam([p for p in ours.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(STEPS):
        terms = ours(batch, augment)
        terms.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        judged = terms.parts.get("contrastive", terms.loss)  # what `chance` speaks of
        losses.append(float(judged.detach()))  # no `after_step`: the same task at every step
        assert terms.embedding.shape[0] == IMAGES
        torch.testing.assert_close(terms.embedding.norm(dim=1), torch.ones(IMAGES))
    if chance is not None:
        assert losses[0] == pytest.approx(chance, rel=0.5, abs=0.5)
    assert min(losses[-5:]) < losses[0] - 0.2 * abs(losses[0])


@pytest.mark.parametrize("kind", TRAINED)
def test_its_encoder_is_trained_and_comes_back_from_disk(
    kind: str, batch: Batch, augment: Augment, tmp_path: Path
) -> None:
    ours = objective(kind, 40, SIZE).train()
    ours(batch, augment).loss.backward()
    gradients = [p.grad for p in ours.encoder.parameters() if p.grad is not None]
    assert any(g.abs().max() > 0 for g in gradients)
    save_encoder(tmp_path, ours.encoder, Making(SIZE))
    x = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        y = ours.encoder.eval()(x)
        assert torch.equal(load_encoder(tmp_path)(x), y)
    assert y.shape == (2, ours.encoder.dim)


@pytest.mark.parametrize("kind", TRAINED)
def test_its_rate_scales_the_learning_rate(kind: str, params: Params) -> None:
    ours = objective(kind, 40, SIZE)
    if not isinstance(TRAINED[kind], TrainedMethod):
        assert ours.adam is not None  # it brings an optimiser and a rate of its own
        return
    ours.rate = 0.25
    optimizers = Optimizers(ours, params.base.optimizer, 256)
    assert optimizers.lr == pytest.approx(0.25 * params.base.optimizer.lr)
