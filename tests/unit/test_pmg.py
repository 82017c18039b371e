"""PMG against loops: jigsaws, the loss of every granularity, and the heads that it leaves behind."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from discern.errors import ModelError, ParamsError
from discern.evaluation.own_head import head_findings, own_head
from discern.images.randomness import Stream, uniform
from discern.images.tiles import shuffled
from discern.images.views import Augment, normalise
from discern.methods.build import Setup, build
from discern.methods.labelled.pmg import TILES, WEIGHTS, GranularClassifier, PMGObjective, most_tiles
from discern.models.build import build_encoder
from discern.models.classifier import load_classifier
from discern.models.making import Making
from discern.models.weights import load_encoder, save_encoder
from discern.params.base import Base
from discern.params.encoder import Timm
from discern.params.evaluation import Bootstrap
from discern.params.pipeline import Params
from discern.training.objective import Batch, Objective
from tests.methods import objective, small
from tests.unit.shared_step import DoubleViews

CPU = torch.device("cpu")
IMAGES = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
BOOTSTRAP = Bootstrap(samples=100, seed=0)


@pytest.fixture
def base(params: Params) -> Base:
    return params.base.model_copy(update={"precision": "fp32"})


@pytest.fixture
def pmg() -> PMGObjective:
    made = objective("pmg", 24)
    assert isinstance(made, PMGObjective)
    return made.double()


def batch(step: int, rows: range = range(4, 12)) -> Batch:
    index = torch.tensor(list(rows))
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)[index]
    return Batch(images, index, epoch=1, step=step, steps=20)


def stages(trained: Objective, x: Tensor) -> list[Tensor]:
    return trained.encoder.stages(x)


def by_hand(image: Tensor, tiles: int, order: Tensor) -> Tensor:
    """An image (C, S, S) whose place p holds the tile order[p]."""
    made, side = torch.zeros_like(image), image.shape[1] // tiles
    for place in range(tiles**2):
        (row, column), (i, j) = divmod(place, tiles), divmod(int(order[place]), tiles)
        tile = image[:, i * side : (i + 1) * side, j * side : (j + 1) * side]
        made[:, row * side : (row + 1) * side, column * side : (column + 1) * side] = tile
    return made


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("size", "tiles"), [(16, 8), (16, 4), (16, 2), (15, 5), (16, 1)])
def test_tiles_change_places(size: int, tiles: int, channels_last: bool) -> None:
    x = torch.randn(3, 2, size, size)
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    order = torch.rand(3, tiles**2).argsort(1)
    found = shuffled(x, tiles, order)
    for image, row, result in zip(x, order, found, strict=True):
        assert torch.equal(result, by_hand(image, tiles, row))
    assert torch.equal(found.flatten().sort()[0], x.flatten().sort()[0])


def test_a_grid_that_does_not_divide_the_side_is_made_coarser() -> None:
    assert [most_tiles(tiles, 16) for tiles in TILES] == [8, 4, 2, 1]
    assert [most_tiles(tiles, 225) for tiles in TILES] == [5, 3, 1, 1]
    assert [most_tiles(tiles, 36) for tiles in TILES] == [6, 4, 2, 1]


@pytest.mark.parametrize("step", range(5))
def test_the_loss_of_each_granularity(step: int, pmg: PMGObjective, base: Base) -> None:
    """One head on one jigsaw, image by image; running statistics stand in for the batch's."""
    pmg.eval()
    augment, turn, this = DoubleViews(base.views, 16, 0), step % 4, batch(step)
    views = augment(this.images, this.index, this.epoch, 0)
    tiles = TILES[turn]
    orders = uniform(this.index, tiles**2, 0, this.epoch, Stream.TILES).argsort(1)
    losses = []
    for view, order, number in zip(views, orders, this.index, strict=True):
        maps = stages(pmg, by_hand(view, tiles, order)[None])
        pooled = []
        for stage in range(3):
            y = maps[stage + 1]
            for layer in pmg.classifier.blocks[stage].children():
                y = layer(y)
            pooled.append(y.flatten(2).max(2).values)
        heads = [*pmg.classifier.heads, pmg.classifier.together]
        logits = heads[turn](torch.cat(pooled, 1) if turn == 3 else pooled[turn])[0].tolist()
        losses.append(math.log(sum(math.exp(z) for z in logits)) - logits[int(number) % 3])
    with torch.no_grad():
        terms = pmg(this, augment)
    expected = sum(losses) / len(losses)
    assert float(terms.parts["cross_entropy"]) == pytest.approx(expected, rel=1e-9)
    assert float(terms.loss) == pytest.approx(expected * WEIGHTS[turn], rel=1e-9)
    assert terms.embedding.shape == (8, pmg.encoder.dim)


@pytest.mark.parametrize("turn", range(4))
def test_every_parameter_has_a_gradient_and_those_out_of_turn_have_zeros(
    turn: int, pmg: PMGObjective, base: Base
) -> None:
    torch.autograd.backward(pmg(batch(turn), DoubleViews(base.views, 16, 0)).loss)
    parts: dict[str, Any] = dict(pmg.classifier.heads.named_children())
    parts["3"] = pmg.classifier.together
    for name, part in parts.items():
        sizes = [float(p.grad.abs().sum()) for p in part.parameters()]
        assert (sum(sizes) > 0) is (name == str(turn))
    for number, block in enumerate(pmg.classifier.blocks):
        sizes = [float(p.grad.abs().sum()) for p in block.parameters() if p.grad is not None]
        assert len(sizes) == 6
        assert (sum(sizes) > 0) is (turn in (number, 3))
    assert all(p.grad is not None for p in pmg.parameters())


def test_images_are_shuffled_each_by_itself_whatever_the_batch(pmg: PMGObjective, base: Base) -> None:
    orders = uniform(torch.arange(24), 64, 0, 0, Stream.TILES).argsort(1)
    assert len({tuple(order.tolist()) for order in orders}) == 24
    pmg.eval()
    augment = DoubleViews(base.views, 16, 0)
    whole = pmg(batch(0, range(8)), augment).loss
    halves = [pmg(batch(0, rows), augment).loss for rows in (range(4), range(4, 8))]
    torch.testing.assert_close(whole, torch.stack(halves).mean())


def test_rates_chance_and_passes(pmg: PMGObjective) -> None:
    assert pmg.encoder_rate == 0.1
    assert pmg.passes == 1
    assert pmg.chance(8) == pytest.approx(1.25 * math.log(3))


def test_a_network_without_stages_is_refused() -> None:
    vit = build_encoder(Timm(kind="timm", name="test_vit"), 0)
    with pytest.raises(ParamsError, match=r"base\.encoder: pmg needs feature maps of 3 resolutions .* gives 1"):
        build(small("pmg"), Setup(vit, 24, 0, 16, torch.arange(24) % 3, 3))


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_any_network_of_stages_is_trained_in_all_its_parts(name: str, base: Base, tmp_path: Path) -> None:
    encoder = build_encoder(Timm(kind="timm", name=name), 0)
    trained = build(small("pmg"), Setup(encoder, 24, 0, 64, torch.arange(24) % 3, 3))
    assert isinstance(trained, PMGObjective)
    images = F.interpolate(torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float(), size=64).to(torch.uint8)
    index = torch.arange(8)
    this = Batch(images[:8], index, epoch=0, step=3, steps=20)  # the turn of all stages together
    terms = trained(this, Augment(base.views, 64, 0))
    assert terms.embedding.shape == (8, encoder.dim)
    torch.autograd.backward(terms.loss)
    assert all(p.grad is not None for p in trained.parameters() if p.requires_grad)
    save_encoder(tmp_path, encoder, Making(64))
    trained.leave(tmp_path, IMAGES[:0], CPU)
    logits = own_head(load_encoder(tmp_path), tmp_path, images[:4].permute(0, 2, 3, 1).numpy(), CPU, 4, "fp32")
    assert logits["combined"].shape == (4, 3)


@pytest.mark.parametrize("kind", ["pmg", "supervised"])
def test_heads_come_back_bit_for_bit_and_score_the_same(kind: str, base: Base, tmp_path: Path) -> None:
    trained = objective(kind, 24)
    trained(batch(0), Augment(base.views, 16, 0))  # moves running statistics
    save_encoder(tmp_path, trained.encoder, Making(16))
    assert trained.leave(tmp_path, IMAGES[:0], CPU) == {}
    head = trained.get_submodule("classifier")
    loaded = load_classifier(tmp_path)
    assert not loaded.training
    for (name, a), b in zip(head.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    logits = own_head(load_encoder(tmp_path), tmp_path, IMAGES, CPU, 7, "fp32")
    trained.eval()
    x = normalise(torch.from_numpy(IMAGES).permute(0, 3, 1, 2))
    with torch.no_grad():
        if kind == "supervised":
            expected = {"linear": head(trained.encoder(x))}
        else:
            four = head(stages(trained, x)[1:])
            expected = {"concatenation": four[3], "combined": four[0] + four[1] + four[2] + four[3]}
    assert list(logits) == list(expected)
    for name, rows in expected.items():
        np.testing.assert_allclose(logits[name], rows.numpy(), rtol=1e-4, atol=1e-5)


def test_findings_of_the_heads(base: Base, tmp_path: Path) -> None:
    labels = np.arange(24) % 3
    trained = objective("pmg", 24)
    assert not head_findings(trained.encoder, tmp_path, IMAGES, labels, BOOTSTRAP, base, CPU).metrics
    save_encoder(tmp_path, trained.encoder, Making(16))
    trained.leave(tmp_path, IMAGES, CPU)
    labels[0] = -1
    found = head_findings(load_encoder(tmp_path), tmp_path, IMAGES, labels, BOOTSTRAP, base, CPU)
    figures = found.metrics["head"]
    assert set(figures) == {
        "top1", "top1_low", "top1_high", "balanced", "macro_f1", "top1_concatenation", "top1_combined",
    }  # fmt: skip
    logits = own_head(load_encoder(tmp_path), tmp_path, IMAGES, CPU, base.batch_size, "fp32")
    right = logits["combined"].argmax(1) == labels
    assert figures["top1"] == figures["top1_combined"] == pytest.approx(right[1:].mean())
    assert figures["top1_concatenation"] == pytest.approx((logits["concatenation"].argmax(1) == labels)[1:].mean())
    correct = found.outcomes["head_correct"]
    assert np.isnan(correct[0])
    assert np.array_equal(correct[1:], right[1:])
    assert head_findings(load_encoder(tmp_path), tmp_path, IMAGES, np.full(24, -1), BOOTSTRAP, base, CPU).notes


def test_a_linear_head_has_one_score(base: Base, tmp_path: Path) -> None:
    trained = objective("supervised", 24)
    save_encoder(tmp_path, trained.encoder, Making(16))
    trained.leave(tmp_path, IMAGES, CPU)
    found = head_findings(load_encoder(tmp_path), tmp_path, IMAGES, np.arange(24) % 3, BOOTSTRAP, base, CPU)
    assert set(found.metrics["head"]) == {"top1", "top1_low", "top1_high", "balanced", "macro_f1"}


def test_a_foreign_description_is_told(tmp_path: Path) -> None:
    (tmp_path / "classifier.json").write_text('{"kind": "forest"}')
    with pytest.raises(ModelError, match="not a classifier's description"):
        load_classifier(tmp_path)


def test_heads_learn_their_own_granularity() -> None:
    """A few steps on one batch bring every head's loss down."""
    torch.manual_seed(0)
    trained = objective("pmg", 24)
    assert isinstance(trained, PMGObjective)
    assert isinstance(trained.classifier, GranularClassifier)
    x, y = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.9)

    def losses() -> list[Tensor]:
        maps = stages(trained, x)
        return [F.cross_entropy(logits, y) for logits in trained.classifier(maps[1:])]

    before = [float(loss.detach()) for loss in losses()]
    for step in range(24):
        optimizer.zero_grad()
        torch.autograd.backward(WEIGHTS[step % 4] * losses()[step % 4])
        optimizer.step()
    assert all(float(after.detach()) < 0.7 * start for after, start in zip(losses(), before, strict=True))
