"""Batched corruptions against plain loops over the pixels of single images."""

from collections import Counter
from contextlib import nullcontext
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from discern.images.randomness import Stream, seeded, uniform
from discern.images.views import LUMA, Augment, denormalise, normalise
from discern.methods.build import Setup, build
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.methods.pretext.corrupted.corners import corner_response, mean_position
from discern.methods.pretext.corrupted.corruptions import BLACK, KINDS, WHITE, build_corruption, within
from discern.methods.pretext.corrupted.objective import CorruptedObjective
from discern.models.build import build_encoder
from discern.params.corruption import Corruption
from discern.params.pipeline import Params
from discern.training.objective import Batch
from tests.methods import ENCODER, small

Image = NDArray[np.float64]  # (3, S, S) in [0, 1]

PAPER: dict[str, dict[str, Any]] = {
    "gamma": {"exponent": (0.5, 2.5)},
    "coarse_dropout": {"holes": (5, 20), "side": (0.02, 0.05)},
    "cropped_region": {"side": (0.39, 0.59), "quality": 0.1},
    "patch_swap": {"side": 0.39},
    "random_jigsaw": {"grid": 4},
    "dcl_jigsaw": {"grid": 7, "reach": 2.0},
}
SHUFFLES = ["patch_swap", "random_jigsaw", "dcl_jigsaw"]
SIZES = [32, 37]  # 37: no grid divides it
EVERY = pytest.mark.parametrize("kind", PAPER)


def views(n: int, size: int, seed: int = 0) -> Tensor:
    """Normalised images with corners at coarse and fine scales, no two pixels alike."""
    coarse = torch.rand(n, 3, 5, 5, generator=seeded(seed, 0)).repeat_interleave(8, 2).repeat_interleave(8, 3)
    fine = torch.rand(n, 3, size, size, generator=seeded(seed, 1))
    x = normalise(0.8 * coarse[..., :size, :size] + 0.2 * fine)
    return x.contiguous(memory_format=torch.channels_last)


def drawn(kind: str, index: Tensor, size: int, **changes: Any) -> Tensor:
    """The parameters of images with these numbers at seed 1, epoch 2, view 0."""
    corruption = build_corruption(kind, **{**PAPER[kind], **changes})
    return corruption.parameters(uniform(index, corruption.draws, 1, 2, 0, Stream.CORRUPTION), size)


def values(x: Tensor) -> list[int]:
    """Which numbers there are."""
    return sorted(set(x.flatten().tolist()))


def brightened(image: Image, drawn: list[float]) -> Image:
    return np.array([[[value ** drawn[0] for value in row] for row in plane] for plane in image])


def with_holes(image: Image, drawn: list[float]) -> Image:
    image, most = image.copy(), len(drawn) // 3
    for hole in range(most):
        top, left, side = (int(drawn[hole + part * most]) for part in range(3))
        for row in range(top, top + side):
            for column in range(left, left + side):
                image[:, row, column] = 0
    return image


def corners(image: Image) -> Image:
    """The smaller eigenvalue of the second moments, with Sobel's filter and borders repeated."""
    size = image.shape[1]
    grey = np.pad(np.tensordot(LUMA, image, 1), 1, mode="edge")
    moments = np.zeros((size + 2, size + 2, 2, 2))  # nothing outside of the image
    sobel = np.outer([-1, 0, 1], [1, 2, 1]) / 8
    for row in range(size):
        for column in range(size):
            patch = grey[row : row + 3, column : column + 3]
            gradient = np.array([(patch * sobel).sum(), (patch * sobel.T).sum()])
            moments[row + 1, column + 1] = np.outer(gradient, gradient)
    response = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            response[row, column] = np.linalg.eigvalsh(moments[row : row + 3, column : column + 3].mean((0, 1)))[0]
    return response


def region(image: Image, drawn: list[float]) -> Image:
    size, side = image.shape[1], int(drawn[0])
    response = corners(image)
    response[response < PAPER["cropped_region"]["quality"] * response.max()] = 0
    first = []
    for axis in (1, 0):
        centre = np.average(np.arange(size) + 0.5, weights=response.sum(axis))
        first.append(min(max(round(centre - side / 2), 0), size - side))
    rows, columns = (slice(start, start + side) for start in first)
    white = np.ones_like(image)
    white[:, rows, columns] = image[:, rows, columns]
    return white


def swapped(image: Image, drawn: list[float]) -> Image:
    size = image.shape[1]
    side = round(PAPER["patch_swap"]["side"] * size)
    tops, lefts = [int(value) for value in drawn[:2]], [int(value) for value in drawn[2:]]
    result = image.copy()
    for here, there in ((0, 1), (1, 0)):
        patch = image[:, tops[there] : tops[there] + side, lefts[there] : lefts[there] + side]
        result[:, tops[here] : tops[here] + side, lefts[here] : lefts[here] + side] = patch
    return result


def tiled(image: Image, drawn: list[float]) -> Image:
    size, grid = image.shape[1], round(len(drawn) ** 0.5)
    tile = size // grid
    margin, result = (size - grid * tile) // 2, image.copy()
    for place, source in enumerate(int(value) for value in drawn):
        (row, column), (from_row, from_column) = divmod(place, grid), divmod(source, grid)
        for down in range(tile):
            for across in range(tile):
                pixel = image[:, margin + from_row * tile + down, margin + from_column * tile + across]
                result[:, margin + row * tile + down, margin + column * tile + across] = pixel
    return result


REFERENCES = {
    "gamma": brightened,
    "coarse_dropout": with_holes,
    "cropped_region": region,
    "patch_swap": swapped,
    "random_jigsaw": tiled,
    "dcl_jigsaw": tiled,
}


def test_every_kind_of_parameters_has_its_corruption() -> None:
    union, _ = get_args(Corruption)
    kinds = {get_args(model.model_fields["kind"].annotation)[0]: model for model in get_args(union)}
    assert set(kinds) == set(KINDS) == set(PAPER)
    for kind, model in kinds.items():
        build_corruption(**model(kind=kind, **PAPER[kind]).model_dump())


@pytest.mark.parametrize("size", SIZES)
@EVERY
def test_the_batch_is_the_loop_over_images(kind: str, size: int) -> None:
    x, index = views(6, size), torch.arange(6) * 1000
    ours = denormalise(build_corruption(kind, **PAPER[kind])(x, index, 1, 2, 0))
    for image, result, numbers in zip(denormalise(x), ours, drawn(kind, index, size), strict=True):
        expected = REFERENCES[kind](image.double().numpy(), numbers.tolist())
        np.testing.assert_allclose(result, expected, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@EVERY
def test_a_view_depends_on_its_key_and_on_nothing_else(kind: str, dtype: torch.dtype) -> None:
    x, index = views(9, 37).to(dtype), torch.arange(9) * 7
    corrupt = build_corruption(kind, **PAPER[kind])
    expected = corrupt(x, index, 1, 2, 0)
    assert torch.equal(corrupt(x, index, 1, 2, 0), expected)
    order = torch.tensor([4, 0, 8])
    assert torch.equal(corrupt(x[order], index[order], 1, 2, 0), expected[order])
    for i in range(9):
        assert torch.equal(corrupt(x[i : i + 1], index[i : i + 1], 1, 2, 0), expected[i : i + 1])
    for other in ((1, 2, 1), (1, 3, 0), (2, 2, 0)):
        assert not torch.equal(corrupt(x, index, *other), expected)
    assert not torch.equal(corrupt(x, index + 1, 1, 2, 0), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@EVERY
def test_type_is_kept_and_channels_come_last(kind: str, dtype: torch.dtype) -> None:
    x, index = views(4, 32), torch.arange(4)
    corrupt = build_corruption(kind, **PAPER[kind])
    original = x.to(dtype)
    ours = corrupt(original, index, 0, 0, 0)
    assert torch.equal(original, x.to(dtype))  # not changed in place
    assert ours.dtype == dtype
    assert ours.shape == x.shape
    assert ours.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(corrupt(original.contiguous(), index, 0, 0, 0), ours)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(corrupt(original, index, 0, 0, 0), ours)
    if kind != "cropped_region":  # where rounding may move the window by a pixel
        torch.testing.assert_close(ours.float(), corrupt(x, index, 0, 0, 0), atol=0.05, rtol=0.02)


@EVERY
def test_nothing_is_read_back_from_the_device(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors on "meta" have no contents: whoever asks for them, or for a number of them, gets an error.
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    x = torch.empty(8, 3, 30, 30, dtype=torch.bfloat16, device="meta")
    corrupted = build_corruption(kind, **PAPER[kind])(x, torch.arange(8), 0, 0, 0)
    assert corrupted.device.type == "meta"
    assert corrupted.shape == x.shape


def test_exponents_fill_their_range() -> None:
    exponent = drawn("gamma", torch.arange(20_000), 64)
    assert exponent.dtype == torch.float32
    assert 0.5 <= exponent.min() < 0.501
    assert 2.499 < exponent.max() < 2.5
    assert exponent.mean() == pytest.approx(1.5, abs=0.01)


@pytest.mark.parametrize("size", [64, 512])
def test_holes_fill_their_ranges_and_lie_in_the_image(size: int) -> None:
    top, left, side = drawn("coarse_dropout", torch.arange(20_000), size).chunk(3, dim=1)
    count = (side > 0).sum(1)
    assert values(count) == list(range(5, 21))
    assert count.float().mean() == pytest.approx(12.5, abs=0.1)
    smallest, largest = {64: (1, 3), 512: (10, 26)}[size]
    held = side > 0
    assert values(side[held]) == list(range(smallest, largest + 1))
    for first in (top[held], left[held]):
        assert int(first.min()) == 0
        assert int((first + side[held]).max()) == size


def test_regions_fill_their_range() -> None:
    side = drawn("cropped_region", torch.arange(20_000), 512)
    assert (int(side.min()), int(side.max())) == (200, 302)


@pytest.mark.parametrize("size", [37, 64])
def test_patches_come_one_from_each_half_and_from_everywhere_in_it(size: int) -> None:
    top, left = drawn("patch_swap", torch.arange(20_000), size).chunk(2, dim=1)
    side, half = round(0.39 * size), size // 2
    assert values(top) == list(range(size - side + 1))
    assert values(left[:, 0]) == list(range(half - side + 1))
    assert values(left[:, 1]) == list(range(size - half, size - side + 1))


def test_half_the_side_is_the_largest_patch() -> None:
    x = views(3, 37)
    swapped = build_corruption("patch_swap", side=0.5)(x, torch.arange(3), 0, 0, 0)
    assert torch.equal(swapped.flatten(2).sort(2).values, x.flatten(2).sort(2).values)
    assert torch.equal(swapped[..., 18], x[..., 18])  # between the halves


@pytest.mark.parametrize("size", [*SIZES, 5])
@pytest.mark.parametrize("kind", SHUFFLES)
def test_shuffles_keep_every_pixel(kind: str, size: int) -> None:
    x = torch.arange(8 * 3 * size * size).view(8, 3, size, size).double()
    ours = build_corruption(kind, **PAPER[kind])(x, torch.arange(8), 0, 0, 0)
    assert torch.equal(ours.flatten(2).sort(2).values, x.flatten(2))
    # The three channels move together.
    assert torch.equal(ours[:, 1] - ours[:, 0], x[:, 1] - x[:, 0])
    assert size < 7 or not torch.equal(ours, x)


def test_every_order_of_tiles_is_as_likely() -> None:
    order = drawn("random_jigsaw", torch.arange(24_000), 64, grid=2)
    assert torch.equal(order.sort(1).values.long(), torch.arange(4).expand(24_000, 4))
    counts = Counter(tuple(row) for row in order.tolist())
    assert len(counts) == 24
    assert all(abs(count - 1000) < 130 for count in counts.values())  # four standard deviations


@pytest.mark.parametrize(("grid", "reach"), [(7, 2.0), (3, 2.0), (7, 1.0), (9, 1.5)])
def test_dcl_sorts_rows_then_columns_and_moves_no_tile_far(grid: int, reach: float) -> None:
    index = torch.arange(3000)
    tiles = drawn("dcl_jigsaw", index, 64, grid=grid, reach=reach).long()
    assert torch.equal(tiles.sort(1).values, torch.arange(grid**2).expand(3000, -1))
    place = torch.arange(grid**2)
    for source, target in ((tiles // grid, place // grid), (tiles % grid, place % grid)):
        moves = (source - target).abs()
        assert int(moves.max()) < 2 * reach
        assert int(moves.max()) == min(grid, round(2 * reach)) - 1  # and some move as far as they may
    noise = (reach * (2 * uniform(index[:50], 2 * grid**2, 1, 2, 0, Stream.CORRUPTION) - 1)).view(
        50, 2, grid, grid
    )
    for numbers, result in zip(noise.tolist(), tiles, strict=False):
        rows = [sorted(range(grid), key=lambda j: j + numbers[0][i][j]) for i in range(grid)]
        board = [[i * grid + column for column in rows[i]] for i in range(grid)]
        for column in range(grid):
            order = sorted(range(grid), key=lambda i: i + numbers[1][i][column])
            for row, value in enumerate([board[i][column] for i in order]):
                assert int(result[row * grid + column]) == value


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("gamma", {"exponent": (1.0, 1.0)}),
        ("coarse_dropout", {"holes": (0, 0), "side": (0.1, 0.1)}),
        ("cropped_region", {"side": (1.0, 1.0), "quality": 0.1}),
        ("random_jigsaw", {"grid": 1}),
        ("random_jigsaw", {"grid": 64}),  # no tile has a whole pixel
        ("dcl_jigsaw", {"grid": 5, "reach": 0.5}),  # no two tiles change their order
    ],
)
def test_what_changes_nothing_leaves_the_view_as_it_is(kind: str, settings: dict[str, Any]) -> None:
    x = views(5, 37)
    ours = build_corruption(kind, **settings)(x, torch.arange(5), 0, 0, 0)
    torch.testing.assert_close(ours, x, atol=1e-5 if kind == "gamma" else 0, rtol=0)


def test_black_stays_black_and_white_white_at_every_exponent() -> None:
    x = normalise(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 4, 4))
    ours = build_corruption("gamma", exponent=(0.5, 2.5))(x, torch.arange(2), 0, 0, 0)
    torch.testing.assert_close(ours, x, atol=2e-3, rtol=0)  # a root of rounding; a level is 0.02


def test_corners_are_where_they_are_drawn() -> None:
    x = torch.zeros(4, 3, 40, 40)
    x[0, :, 4:12, 24:34] = 1  # a box
    x[1, :, 20:] = 1  # an edge has no corner
    x[3] = 0.3 + 1e-3 * torch.rand(3, 40, 40, generator=seeded(0))  # below one level, but not nothing
    response = corner_response(normalise(x))
    assert response.shape == (4, 40, 40)
    expected = torch.tensor([[8.0, 29.0], [20, 20], [20, 20]])
    torch.testing.assert_close(mean_position(response, 0.5)[:3].float(), expected)
    strongest = {divmod(int(pixel), 40) for pixel in response[0].flatten().topk(4).indices}
    assert {(row // 8, column // 29) for row, column in strongest} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    for view, ours in zip(x, response, strict=True):
        np.testing.assert_allclose(ours, corners(view.double().numpy()), atol=1e-7)


def test_the_region_follows_the_corners_and_stays_in_the_image() -> None:
    x = torch.full((2, 3, 40, 40), 0.5)
    x[0, :, 0:4, 34:40], x[1, :, 20:24, 14:20] = 0, 0
    ours = denormalise(build_corruption("cropped_region", side=(0.4, 0.4), quality=0.3)(
        normalise(x), torch.arange(2), 0, 0, 0
    ))  # fmt: skip
    expected = torch.ones_like(x)
    expected[0, :, :16, 24:] = x[0, :, :16, 24:]
    expected[1, :, 14:30, 9:25] = x[1, :, 14:30, 9:25]
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_within_counts_from_the_first() -> None:
    first, length = torch.tensor([[0, 3, 2]]), torch.tensor([[2, 1, 0]])
    expected = [[True, True, False, False], [False, False, False, True], [False] * 4]
    assert within(first, length, 4)[0].tolist() == expected


@pytest.mark.parametrize("sides", ["one", "two"])
@EVERY
def test_the_sides_that_are_named_are_corrupted_and_only_these(kind: str, sides: str, params: Params) -> None:
    settings = small("simclr_corrupted", corruption={"kind": kind, **PAPER[kind]}, sides=sides)
    objective = build(settings, Setup(build_encoder(ENCODER, 0), images=8, seed=5))
    assert isinstance(objective, CorruptedObjective)
    images = (denormalise(views(8, 32)) * 255).to(torch.uint8)
    batch = Batch(images, torch.arange(8), epoch=3, step=0, steps=1)
    augment = Augment(params.base.views, 32, seed=5)
    plain = [augment(images, batch.index, 3, number) for number in (0, 1)]
    expected = [build_corruption(kind, **PAPER[kind])(x, batch.index, 5, 3, n) for n, x in enumerate(plain)]
    assert torch.equal(objective.view(batch, augment, 0), plain[0] if sides == "one" else expected[0])
    assert torch.equal(objective.view(batch, augment, 1), expected[1])
    assert not torch.equal(expected[1], plain[1])
    terms = objective.eval()(batch, augment)
    pair = [objective.view(batch, augment, number) for number in (0, 1)]
    torch.testing.assert_close(terms.loss, objective.method(*pair).loss)


def test_but_for_its_views_it_is_simclr(params: Params) -> None:
    setup = [Setup(build_encoder(ENCODER, 0), images=8, seed=5) for _ in range(2)]
    settings = small("simclr_corrupted")
    ours, method = build(settings, setup[0]), build(small("simclr", temperature=settings.temperature), setup[1])
    assert isinstance(ours, ContrastiveObjective)
    assert isinstance(method, JointEmbedding)
    plain = ContrastiveObjective(method)
    assert ours.chance(8) == plain.chance(8)
    theirs = plain.state_dict()
    assert all(torch.equal(weights, theirs.pop(name)) for name, weights in ours.state_dict().items())
    assert not theirs


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("gamma", {"exponent": (2.5, 0.5)}),
        ("gamma", {"exponent": (0.0, 1.0)}),
        ("coarse_dropout", {"holes": (20, 5)}),
        ("coarse_dropout", {"side": (0.02, 1.5)}),
        ("patch_swap", {"side": 0.6}),
        ("random_jigsaw", {"grid": 1}),
        ("dcl_jigsaw", {"reach": 0}),
        ("gamma", {"grid": 3}),
    ],
)
def test_what_cannot_be_is_refused(kind: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(changes))):
        small("simclr_corrupted", corruption={"kind": kind, **PAPER[kind], **changes})


def test_black_and_white_are_those_of_normalised_views() -> None:
    for ours, value in ((BLACK, 0.0), (WHITE, 1.0)):
        assert ours == pytest.approx(normalise(torch.full((1, 3, 1, 1), value)).flatten().tolist())
