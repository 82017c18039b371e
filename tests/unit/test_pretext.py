"""Pretext tasks against references written as loops, and whether they ask what they mean to ask."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.color import rgb2lab
from torch import Tensor

from discern.errors import ParamsError
from discern.images.randomness import Stream, uniform
from discern.images.views import LUMA, Augment
from discern.methods.build import Setup, build
from discern.methods.pretext.colorization.colour import REACH, STEP, gamut, lab, lightness, quantise
from discern.methods.pretext.colorization.objective import ColorizationObjective, without_colours
from discern.methods.pretext.jigsaw.objective import JigsawObjective, cut, normalised, tile_side
from discern.methods.pretext.rotation import RotationObjective, draw_turns, turned
from discern.models.build import build_encoder
from discern.params.base import Views
from discern.params.encoder import Timm
from discern.params.pipeline import Params
from discern.training.objective import Batch, Objective
from tests.methods import ENCODER, small

KINDS = ["colorization", "jigsaw", "rotation"]
CHANCE = {"colorization": math.log(261), "jigsaw": math.log(20), "rotation": math.log(4)}


@pytest.fixture
def views(params: Params) -> Views:
    return params.base.views


def objective(kind: str, size: int = 16, **changes: Any) -> Any:
    encoder = build_encoder(ENCODER, 0)
    return build(small(kind, **changes), Setup(encoder, 20, 0, size))


def batch(images: Tensor, epoch: int = 0) -> Batch:
    return Batch(images, torch.arange(5, 5 + len(images)), epoch, step=0, steps=10)


def noise(count: int, size: int) -> Tensor:
    """Images of four colours each, in blocks, with noise on them."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randint(30, 226, (count, 3, 2, 2), generator=generator)
    fine = torch.randint(-30, 30, (count, 3, size, size), generator=generator)
    return (F.interpolate(coarse.float(), size=size) + fine).to(torch.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_starts_near_chance_and_falls_on_a_fixed_batch(kind: str, views: Views) -> None:
    trained: Objective = objective(kind, 24)
    augment, fixed = Augment(views, 24, 0), batch(noise(16, 24))
    assert trained.chance(16) == pytest.approx(CHANCE[kind])
    assert trained.passes == 1
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(25):
        terms = trained(fixed, augment)
        terms.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(terms.loss.detach()))
    assert losses[0] == pytest.approx(CHANCE[kind], rel=0.2)
    assert losses[-1] < 0.6 * losses[0]
    assert terms.parts.keys() == {"cross_entropy"}
    torch.testing.assert_close(terms.embedding.norm(dim=1), torch.ones(16))


@pytest.mark.parametrize("kind", KINDS)
def test_an_images_question_does_not_depend_on_its_batch(kind: str, views: Views) -> None:
    trained: Objective = objective(kind, 24).eval()
    augment, whole = Augment(views, 24, 0), batch(noise(8, 24), epoch=3)
    together = trained(whole, augment).loss
    apart = torch.stack([trained(part, augment).loss for part in whole.split(4)]).mean()
    torch.testing.assert_close(together, apart)
    assert trained(whole, augment).loss == together
    assert trained(batch(noise(8, 24), epoch=4), augment).loss != together
    assert trained(whole, Augment(views, 24, 1)).loss != together


# Jigsaw


def by_loop(trained: JigsawObjective, images: Tensor, index: Tensor, seed: int, epoch: int) -> Tensor:
    """The loss of a batch, image by image and tile by tile."""
    u = uniform(index, 20, seed, epoch, Stream.PUZZLE).tolist()
    size, share = images.shape[2], trained.params.tile
    cell, tile, margin = size // 3, tile_side(size, share), size % 3 // 2
    loss = torch.zeros((), dtype=torch.float64)
    for image, draws in zip(images, u, strict=True):
        answer = int(draws[0] * trained.params.permutations)
        hidden = []
        for source in trained.permutations[answer].tolist():
            down, across = (int(d * (cell - tile + 1)) for d in draws[2 + 2 * source : 4 + 2 * source])
            top, left = margin + source // 3 * cell + down, margin + source % 3 * cell + across
            piece = image[:, top : top + tile, left : left + tile].double()
            if draws[1] < trained.params.grayscale:
                piece = sum(w * c for w, c in zip(LUMA, piece, strict=True)).expand(3, -1, -1)
            piece = torch.stack([(c - c.mean()) / c.std(correction=0) for c in piece])
            hidden.append(F.relu(trained.bottleneck(trained.encoder(piece[None])[0])))
        scores = trained.head(torch.cat(hidden))
        loss = loss - torch.log_softmax(scores, 0)[answer] / len(images)
    return loss


@pytest.mark.parametrize("size", [24, 26])  # 26: cells of 8 with a pixel to spare at either side
def test_jigsaw_against_a_loop_with_its_gradient(size: int, views: Views) -> None:
    trained: JigsawObjective = objective("jigsaw", size, grayscale=0.5).double().eval()
    fixed = batch(noise(6, size), epoch=2)
    grey = uniform(fixed.index, 20, 7, 2, Stream.PUZZLE)[:, 1] < 0.5
    assert 0 < grey.sum() < 6  # both kinds are compared
    names = [name for name, _ in trained.named_parameters()]
    losses = [
        trained(fixed, Augment(views, size, 7)).loss,
        by_loop(trained, fixed.images, fixed.index, 7, 2),
    ]
    torch.testing.assert_close(losses[0], losses[1], atol=1e-10, rtol=1e-10)
    ours, theirs = (torch.autograd.grad(loss, list(trained.parameters())) for loss in losses)
    for name, a, b in zip(names, ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8, msg=name)


STRIPES = [  # one of two levels at row y and column x, each half of the time in a cell of 16 pixels
    lambda y, x: y // 2,
    lambda y, x: y // 4,
    lambda y, x: x // 2,
    lambda y, x: x // 4,
    lambda y, x: (y + x) // 2,
    lambda y, x: (y + x) // 4,
    lambda y, x: (y - x) // 2,
    lambda y, x: (y - x) // 4,
    lambda y, x: y // 4 + x // 4,
]


def marked(kinds: list[int], seed: int) -> Tensor:
    """16 images of two random colours; cell k carries stripes of kind `kinds[k]`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    cells = [STRIPES[kind](y, x) % 2 for kind in kinds]
    stripes = np.block([cells[0:3], cells[3:6], cells[6:9]])  # (48, 48)
    colours = rng.integers(0, 256, (16, 2, 3))
    colours[:, 1] = (colours[:, 0] + rng.integers(60, 190, (16, 3))) % 256
    return torch.from_numpy(colours[:, stripes]).permute(0, 3, 1, 2).to(torch.uint8)


def last_losses(kinds: list[int], views: Views, steps: int) -> float:
    """Mean loss of the last ten steps, each with new puzzles of new images."""
    trained: JigsawObjective = objective("jigsaw", 48, permutations=10, dropout=0.2)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(steps):
        loss = trained(batch(marked(kinds, step), epoch=step), Augment(views, 48, 0)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return sum(losses[-10:]) / 10


def test_marks_of_the_cells_give_every_cell_the_same_colours() -> None:
    image = marked(list(range(9)), 0)[0].double()
    cells = image.unfold(1, 16, 16).unfold(2, 16, 16).flatten(1, 2).flatten(2)  # (3, 9, 256)
    assert len({tuple(cell.sort().values.tolist()) for cell in cells[0]}) == 1


def test_jigsaw_is_solved_by_what_the_places_show(views: Views) -> None:
    assert last_losses(list(range(9)), views, 50) < 0.5 * math.log(10)


def test_jigsaw_of_nine_equal_tiles_stays_at_chance(views: Views) -> None:
    """Nothing but their content tells tiles' places: neither the order of computation nor where they are cut."""
    assert last_losses([5] * 9, views, 50) > 0.95 * math.log(10)


def test_normalised_tiles_show_neither_mean_colour_nor_contrast() -> None:
    tiles = torch.rand(4, 9, 7, 7, 3, generator=torch.Generator().manual_seed(0)) * 100
    plain = normalised(tiles)
    torch.testing.assert_close(plain.mean((2, 3)), torch.zeros(4, 9, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain.var((2, 3), correction=0), torch.ones(4, 9, 3))
    cast = torch.rand(4, 9, 1, 1, 3) * 100 + tiles * (0.5 + torch.rand(4, 9, 1, 1, 3))
    torch.testing.assert_close(normalised(cast), plain, atol=1e-4, rtol=1e-4)
    assert not normalised(torch.full((1, 9, 7, 7, 3), 80.0)).any()  # and not a number divided by zero


def test_a_tile_is_cut_at_the_same_place_wherever_it_goes() -> None:
    images, places = noise(3, 48), torch.rand(3, 9, 2, generator=torch.Generator().manual_seed(0))
    plain = cut(images, torch.arange(9).expand(3, -1), places, 64 / 75)
    order = torch.stack([torch.randperm(9, generator=torch.Generator().manual_seed(k)) for k in range(3)])
    shuffled = cut(images, order, places, 64 / 75)
    for image, place in itertools.product(range(3), range(9)):
        assert torch.equal(shuffled[image, place], plain[image, order[image, place]])


def test_every_place_of_a_cell_is_cut_and_never_its_neighbours() -> None:
    image = torch.arange(48 * 48).view(1, 1, 48, 48).expand(500, 3, -1, -1)
    places = torch.rand(500, 9, 2, generator=torch.Generator().manual_seed(0))
    tiles = cut(image, torch.arange(9).expand(500, -1), places, 64 / 75)[..., 0]  # (500, 9, 14, 14)
    assert tiles.shape == (500, 9, 14, 14)
    rows, columns = tiles // 48, tiles % 48
    for cell in range(9):
        assert set((rows[:, cell] - cell // 3 * 16).flatten().tolist()) == set(range(16))
        assert set((columns[:, cell] - cell % 3 * 16).flatten().tolist()) == set(range(16))


def test_dropout_is_a_function_of_its_key_and_keeps_the_mean(views: Views) -> None:
    trained: JigsawObjective = objective("jigsaw", 24, permutations=10)
    trained.encoder.eval()  # the same features in both modes
    seen: list[Tensor] = []
    trained.head.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    fixed, augment = batch(noise(16, 24)), Augment(views, 24, 0)
    for mode in (True, True, False):
        trained.train(mode)
        trained.encoder.eval()
        trained(fixed, augment)
    first, again, plain = seen
    assert torch.equal(first, again)
    kept = uniform(fixed.index, first.shape[1], 0, 0, Stream.PUZZLE_DROPOUT) >= 0.5
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(first, 2 * plain * kept)


def test_jigsaw_refuses_tiles_that_show_nothing_and_encoders_that_do_not_take_them(views: Views) -> None:
    objective("jigsaw", 16)  # the smallest images that are packed
    with pytest.raises(ParamsError, match=r"pack.image_size = 16: .* 2 px .* takes 24 px"):
        objective("jigsaw", 16, tile=0.5)
    objective("jigsaw", 24, tile=0.5)
    encoder = build_encoder(Timm(kind="timm", name="test_vit"), 0)
    with pytest.raises(ParamsError, match=r"base.encoder: jigsaw feeds it tiles of 14 px"):
        build(small("jigsaw"), Setup(encoder, 20, 0, 48))
    assert encoder.training
    trained = build(small("jigsaw", tile=1.0), Setup(encoder, 20, 0, 48))  # tiles of one patch each
    assert isinstance(trained, JigsawObjective)
    assert trained(batch(noise(4, 48)), Augment(views, 48, 0)).loss > 0


# Rotation


def test_rotation_is_rot90_image_by_image() -> None:
    x, turns = torch.randn(9, 3, 8, 8), torch.arange(9) % 4
    expected = torch.stack([torch.rot90(image, int(k), (1, 2)) for image, k in zip(x, turns, strict=True)])
    assert torch.equal(turned(x, turns), expected)
    assert turned(x, turns).is_contiguous(memory_format=torch.channels_last)


def test_rotation_loss_is_that_of_the_turned_views(views: Views) -> None:
    trained: RotationObjective = objective("rotation").eval()
    fixed, augment = batch(noise(8, 16)), Augment(views, 16, 0)
    turns = draw_turns(fixed.index, 0, 0)
    x = augment(fixed.images, fixed.index, 0, 0)
    loss = torch.zeros(())
    for image, turn in zip(x, turns.tolist(), strict=True):
        scores = trained.head(trained.encoder(torch.rot90(image, turn, (1, 2))[None]))[0]
        loss = loss - torch.log_softmax(scores, 0)[turn] / len(x)
    torch.testing.assert_close(trained(fixed, augment).loss, loss)


def test_all_turns_are_as_frequent_and_change_with_the_epoch() -> None:
    turns = draw_turns(torch.arange(4000), 0, 0)
    assert (torch.bincount(turns, minlength=4) - 1000).abs().max() < 120
    assert (turns == draw_turns(torch.arange(4000), 0, 1)).float().mean() == pytest.approx(0.25, abs=0.03)


# Colourisation


def all_levels(step: int) -> Tensor:
    """RGB colours (1, 3, n, 1) of a grid over the cube, in [0, 1]."""
    level = torch.arange(0, 256, step) / 255
    return torch.cartesian_prod(level, level, level).T[None, :, :, None].contiguous()


def test_lab_is_that_of_scikit_image() -> None:
    rgb = all_levels(15)
    expected = torch.from_numpy(rgb2lab(rgb[0].double().permute(1, 2, 0).numpy())).permute(2, 0, 1)[None]
    torch.testing.assert_close(lab(rgb).double(), expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(lightness(rgb), lab(rgb)[:, :1])


def test_bins_are_the_grids_points_that_colours_have() -> None:
    points, table = gamut()
    assert points.shape == (261, 2)
    assert not (points % STEP).any()
    assert points.abs().max() <= REACH * STEP
    found = {tuple(p) for p in ((lab(all_levels(5))[0, 1:, :, 0] / STEP).round() * STEP).T.tolist()}
    # Inside the cube there is none that its faces, which are what `gamut` tries, do not have.
    assert found <= {tuple(p) for p in points.tolist()}
    assert len(found) == 260
    assert set(table.tolist()) == set(range(261))


def test_quantisation_is_the_nearest_bin_by_a_loop() -> None:
    points, table = gamut()
    rgb = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    ab = lab(rgb)[:, 1:]
    found = quantise(ab, table)
    for n, y, x in itertools.product(range(2), range(9), range(9)):
        distance = [math.dist(ab[n, :, y, x].tolist(), point) for point in points.tolist()]
        assert int(found[n, y, x]) == distance.index(min(distance))
    far = torch.tensor([300.0, -300.0]).view(1, 2, 1, 1)  # of no colour: some bin at the edge all the same
    assert points[quantise(far, table)].flatten()[0] > 0


def test_the_question_is_grey_and_its_answer_the_mean_colours(views: Views) -> None:
    asked: ColorizationObjective = objective("colorization")
    colours = torch.tensor([[200, 30, 30], [30, 200, 30], [30, 30, 200], [120, 120, 120]], dtype=torch.uint8)
    images = colours.view(4, 3, 1, 1).expand(-1, -1, 16, 16).contiguous()
    view = without_colours(Augment(views, 16, 0))(images, torch.arange(4), 0, 0)
    grey, target = asked.question(view)
    assert grey.shape == (4, 3, 16, 16)
    assert target.shape == (4, 4, 4)
    points, _ = gamut()
    expected = rgb2lab(colours.numpy()[None])[0]  # (4, 3)
    for image in range(4):
        assert np.abs(points[target[image]].numpy() - expected[image, 1:]).max() <= STEP / 2 + 0.01
        std, mean = torch.std_mean(grey[image], dim=(1, 2))
        assert std.max() < 1e-5
        level = mean * torch.tensor([0.229, 0.224, 0.225]) + torch.tensor([0.485, 0.456, 0.406])
        torch.testing.assert_close(
            level, torch.full((3,), expected[image, 0] / 100), atol=1e-3, rtol=0, check_dtype=False
        )


def test_colours_are_taken_as_they_are_and_crops_as_the_other_methods_have_them(views: Views) -> None:
    augment, images, index = Augment(views, 16, 0), noise(32, 16), torch.arange(32)
    plain = without_colours(augment)
    assert augment.views == views
    ours, others = (a.parameters(index, 1, 0, 16, 16) for a in (plain, augment))
    assert torch.equal(ours[:, :4], others[:, :4])
    bare = Augment(views.model_copy(update={"jitter": 0, "grayscale": 0, "solarize": 0, "blur": 0}), 16, 0)
    assert torch.equal(plain(images, index, 1, 0), bare(images, index, 1, 0))
    assert type(plain) is type(augment)


@pytest.mark.parametrize(("size", "blocks"), [(16, 1), (24, 2), (32, 3), (50, 3)])
def test_colours_are_named_at_a_quarter_of_the_resolution(size: int, blocks: int, views: Views) -> None:
    trained: ColorizationObjective = objective("colorization", size, blocks=blocks).eval()
    fixed, augment = batch(noise(2, size)), Augment(views, size, 0)
    grey, target = trained.question(without_colours(augment)(fixed.images, fixed.index, 0, 0))
    scores = trained.head(trained.encoder.feature_map(grey), size // 4)
    assert scores.shape == (2, 261, size // 4, size // 4)
    expected = F.cross_entropy(scores, target)
    torch.testing.assert_close(trained(fixed, augment).loss, expected)
