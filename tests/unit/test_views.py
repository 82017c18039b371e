"""Batched augmentation against torchvision's operations on single images."""

import math
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv

from discern.images import views as module
from discern.images.randomness import seeded, uniform
from discern.images.views import (
    DRAWS,
    LUMA,
    PARAMETERS,
    STD,
    Augment,
    blur_matrix,
    colour_affine,
    crop_boxes,
    denormalise,
    normalise,
    resample,
    resize_matrix,
)
from discern.params.base import Views

OFF = Views(
    crop_area=(1.0, 1.0), flip=0, jitter=0, brightness=0, contrast=0, saturation=0, hue=0, grayscale=0, solarize=0,
    blur=0, blur_sigma=(0.1, 2.0),
)  # fmt: skip
# SimCLR's, for a 96 px image.
STRONG = Views(
    crop_area=(0.08, 1.0), flip=0.5, jitter=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2,
    grayscale=0.2, solarize=0.2, blur=0.5, blur_sigma=(0.1 * 224 / 96, 2.0 * 224 / 96),
)  # fmt: skip
LEVEL = 1 / 255


@pytest.fixture
def images() -> torch.Tensor:
    """Float images far enough from black and white that moderate jitter does not clamp."""
    return torch.rand(4, 3, 24, 24, generator=seeded(0)) * 0.4 + 0.3


@pytest.fixture
def photographs() -> torch.Tensor:
    """Random uint8 images with coarse and fine structure, of all levels."""
    coarse = torch.rand(32, 3, 6, 6, generator=seeded(1))
    fine = torch.rand(32, 3, 40, 40, generator=seeded(2))
    mixed: torch.Tensor = tv.resize(coarse, [40, 40]) + 0.3 * (fine - 0.5)
    return (mixed.clamp(0, 1) * 255).round().to(torch.uint8)


def coloured(x: torch.Tensor, u: torch.Tensor, views: Views) -> torch.Tensor:
    matrix, grey = colour_affine(u, views)
    flat = x.flatten(2)
    return (matrix @ flat + grey @ flat.mean(2, keepdim=True)).clamp(0, 1).view(x.shape)


def torchvisions_crop(x: torch.Tensor, edges: torch.Tensor, size: int) -> torch.Tensor:
    top, bottom, left, right = (int(edge) for edge in edges)
    box = (top, min(left, right), bottom - top, abs(right - left))
    cropped: torch.Tensor = tv.resized_crop(x, *box, size=[size, size], antialias=True)
    return cropped.flip(2) if right < left else cropped


def torchvisions_colours(x: torch.Tensor, u: list[float], views: Views) -> torch.Tensor:
    if u[0] < views.jitter:
        x = tv.adjust_brightness(x, 1 + views.brightness * (2 * u[1] - 1))
        x = tv.adjust_contrast(x, 1 + views.contrast * (2 * u[2] - 1))
        x = tv.adjust_saturation(x, 1 + views.saturation * (2 * u[3] - 1))
    return tv.rgb_to_grayscale(x, num_output_channels=3) if u[5] < views.grayscale else x


def test_normalise_and_back(images: torch.Tensor) -> None:
    as_bytes = (images * 255).round().to(torch.uint8)
    expected = tv.normalize(as_bytes / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(normalise(as_bytes), expected)
    torch.testing.assert_close(denormalise(normalise(images)), images)


def test_with_everything_off_a_view_is_the_normalised_image(photographs: torch.Tensor) -> None:
    index = torch.arange(len(photographs))
    view = Augment(OFF, 40, seed=0)(photographs, index, 0, 0)
    torch.testing.assert_close(view, normalise(photographs), atol=1e-5, rtol=0)
    mirrored = Augment(OFF.model_copy(update={"flip": 1.0}), 40, seed=0)(photographs, index, 0, 0)
    torch.testing.assert_close(mirrored, view.flip(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [5, 16, 33, 64])
def test_crop_flip_and_resize_are_torchvisions(size: int) -> None:
    random = np.random.default_rng(size)
    x = torch.rand(40, 3, 37, 50, generator=seeded(size))
    heights, widths = random.integers(1, 38, 40), random.integers(1, 51, 40)  # enlarged and shrunk up to tenfold
    tops, lefts = random.integers(0, 38 - heights), random.integers(0, 51 - widths)
    edges = torch.tensor(np.stack([tops, tops + heights, lefts, lefts + widths])).float()
    rows = resize_matrix(edges[0], edges[1], 37, size)
    ours = resample(x, rows, resize_matrix(edges[2], edges[3], 50, size))
    mirrored = resample(x, rows, resize_matrix(edges[3], edges[2], 50, size))
    for i, box in enumerate(zip(tops, lefts, heights, widths, strict=True)):
        theirs = tv.resized_crop(x[i], *map(int, box), size=[size, size], antialias=True)
        torch.testing.assert_close(ours[i], theirs, atol=1e-5, rtol=0)
        torch.testing.assert_close(mirrored[i], tv.horizontal_flip(theirs), atol=1e-5, rtol=0)


def test_resizing_between_pixels_averages_only_what_the_box_holds() -> None:
    begin = torch.rand(200, generator=seeded(3)) * 20
    end = begin + 0.05 + torch.rand(200, generator=seeded(4)) * (29.9 - begin)
    matrix = resize_matrix(begin, end, 30, 12)
    assert (matrix >= 0).all()
    torch.testing.assert_close(matrix.sum(2), torch.ones(200, 12))
    pixel = torch.arange(30)
    outside = (pixel + 1 <= begin.view(-1, 1)) | (pixel >= end.view(-1, 1))
    assert (matrix.amax(1)[outside] == 0).all()
    # Weights move with the box: a pixel that an edge reaches does not enter it at once.
    begin = torch.arange(1, 20).float()
    before, after = (resize_matrix(begin + step, begin + 9.5, 30, 12) for step in (-1e-3, 1e-3))
    assert (after - before).abs().max() < 0.01


def test_blur_is_torchvisions_with_a_sigma_for_each_image(images: torch.Tensor) -> None:
    sigma = torch.tensor([0.4, 0.8, 1.6, 0.0])
    for radius in (1, 5, 23):  # 23 is all that mirroring 24 pixels allows
        blur = blur_matrix(sigma, 24, radius)
        ours = resample(images, blur, blur)
        for i in range(3):
            theirs = tv.gaussian_blur(images[i], kernel_size=[2 * radius + 1] * 2, sigma=[float(sigma[i])] * 2)
            torch.testing.assert_close(ours[i], theirs, atol=2e-6, rtol=0)
        assert torch.equal(ours[3], images[3])


def test_blur_is_given_in_pixels_of_224_and_cut_off_at_three_sigma() -> None:
    assert Augment(STRONG, 96, 0).sigma == pytest.approx((0.1, 2.0))
    assert Augment(STRONG, 96, 0).radius == 6
    assert Augment(STRONG.model_copy(update={"blur_sigma": (1.0, 2000.0)}), 24, 0).radius == 23


@pytest.mark.parametrize(
    ("strength", "column", "operation", "atol"),
    [
        ("brightness", 1, tv.adjust_brightness, 1e-6),
        # torchvision's luma has fewer digits (0.2989) than the standard's (0.299), times at most 0.8 of white.
        ("contrast", 2, tv.adjust_contrast, 1e-4),
        ("saturation", 3, tv.adjust_saturation, 1e-4),
    ],
)
def test_jitter_is_torchvisions(
    photographs: torch.Tensor, strength: str, column: int, operation: object, atol: float
) -> None:
    views = OFF.model_copy(update={"jitter": 1.0, strength: 0.8})
    u = torch.full((4, 6), 0.5)
    u[:, column] = torch.tensor([0.0, 0.3, 0.7, 1.0])
    x = photographs[:4] / 255
    ours = coloured(x, u, views)
    for i, factor in enumerate((0.2, 0.68, 1.32, 1.8)):
        theirs = operation(x[i], factor)  # type: ignore[operator]  # one of three functions
        torch.testing.assert_close(ours[i], theirs, atol=atol, rtol=0)


def test_grayscale_is_torchvisions(photographs: torch.Tensor) -> None:
    x = photographs[:4] / 255
    ours = coloured(x, torch.full((4, 6), 0.5), OFF.model_copy(update={"grayscale": 1.0}))
    for i in range(4):
        theirs = tv.rgb_to_grayscale(x[i], num_output_channels=3)
        torch.testing.assert_close(ours[i], theirs, atol=1.1e-4, rtol=0)  # luma's digits again
    luma = (x * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(ours, luma.expand_as(x))


def test_hue_turns_about_the_grey_axis() -> None:
    u = torch.full((1, 6), 0.5)
    u[:, 4] = 1.0
    matrix, _ = colour_affine(u, OFF.model_copy(update={"jitter": 1.0, "hue": 1 / 3}))
    # A third of a turn moves red to green to blue, as a shift of HSV's hue does.
    red = torch.tensor([1.0, 0, 0])
    torch.testing.assert_close(matrix[0] @ red, torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix[0] @ matrix[0] @ red, torch.tensor([0.0, 0, 1]), atol=1e-6, rtol=0)
    u = uniform(torch.arange(100), 6, 0)
    matrix, _ = colour_affine(u, OFF.model_copy(update={"jitter": 1.0, "hue": 0.5, "saturation": 0.8}))
    torch.testing.assert_close(matrix @ torch.ones(3), torch.ones(100, 3))  # grey stays grey


def test_solarisation_is_torchvisions(photographs: torch.Tensor) -> None:
    index = torch.arange(len(photographs))
    ours = denormalise(Augment(OFF.model_copy(update={"solarize": 1.0}), 40, 0)(photographs, index, 0, 0))
    torch.testing.assert_close(ours, tv.solarize(photographs / 255, 0.5), atol=1e-5, rtol=0)
    some = denormalise(Augment(OFF.model_copy(update={"solarize": 0.5}), 40, 0)(photographs, index, 0, 0))
    kept = (some - photographs / 255).abs().amax((1, 2, 3)) < 1e-5
    assert 8 < int(kept.sum()) < 24
    torch.testing.assert_close(some[~kept], ours[~kept])


def test_the_composed_view_is_the_composition_of_torchvisions_operations(
    images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # torchvision crops between pixels, and clamps after every operation: none of these needs it.
    monkeypatch.setattr(module, "crop_boxes", lambda *args: crop_boxes(*args).round())
    views = STRONG.model_copy(
        update={"brightness": 0.15, "contrast": 0.3, "saturation": 0.3, "hue": 0.0, "blur_sigma": (4.0, 20.0)}
    )
    x, index = images.repeat(16, 1, 1, 1), torch.arange(64)
    augment = Augment(views, 16, seed=3)
    ours = denormalise(augment(x, index, 2, 1))
    edges, sigma, _, solarised = augment.parameters(index, 2, 1, 24, 24).split_with_sizes(PARAMETERS, dim=1)
    draws = uniform(index, sum(DRAWS), 3, 2, 1).split_with_sizes(DRAWS, dim=1)[2]
    kernel = [2 * augment.radius + 1] * 2
    for i in range(64):
        crop = torchvisions_crop(x[i], edges[i], 16)
        blur = partial(tv.gaussian_blur, kernel_size=kernel, sigma=[max(float(sigma[i]), 1e-3)] * 2)
        colours = partial(torchvisions_colours, u=draws[i].tolist(), views=views)
        threshold = 0.5 if solarised[i] else 1.0
        # Luma's digits cost 1e-4 each in contrast, saturation and grayscale.
        theirs = tv.solarize(colours(blur(crop)), threshold)
        torch.testing.assert_close(ours[i], theirs, atol=3e-4, rtol=0)
        # In the customary order, blur after the colours, contrast is about the mean without the blur.
        theirs = tv.solarize(blur(colours(crop)), threshold)
        torch.testing.assert_close(ours[i], theirs, atol=0.5 * LEVEL, rtol=0)
    for often in (sigma > 0, solarised > 0, draws[:, 0] < views.jitter, draws[:, 5] < views.grayscale):
        assert 4 < int(often.sum()) < 60


def test_bfloat16_is_within_three_levels(photographs: torch.Tensor) -> None:
    index, std = torch.arange(32), torch.tensor(STD).view(3, 1, 1)
    views = STRONG.model_copy(update={"solarize": 0.0})  # at the threshold, solarisation has no bound
    worst, square = 0.0, 0.0
    for epoch in range(5):
        exact = Augment(views, 32, 0)(photographs, index, epoch, 0)
        ours = Augment(views, 32, 0, torch.bfloat16)(photographs, index, epoch, 0)
        error = (ours.float() - exact) * std / LEVEL
        worst, square = max(worst, float(error.abs().max())), square + float((error**2).mean()) / 5
    assert worst < 3
    assert math.sqrt(square) < 0.25  # the rounding of photographs to 8 bits costs 0.29


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layout_type_and_autocast_of_the_images_do_not_matter(
    photographs: torch.Tensor, dtype: torch.dtype
) -> None:
    augment, index = Augment(STRONG, 20, 0, dtype), torch.arange(32)
    expected = augment(photographs, index, 0, 0)
    assert expected.dtype == dtype
    assert expected.shape == (32, 3, 20, 20)
    assert expected.is_contiguous(memory_format=torch.channels_last)
    stored = photographs.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(stored, index, 0, 0), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(photographs, index, 0, 0), expected)
    # Solarised pixels near the threshold may go either way.
    plain = Augment(STRONG.model_copy(update={"solarize": 0.0}), 20, 0, dtype)
    atol = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(
        plain(photographs / 255, index, 0, 0), plain(photographs, index, 0, 0), atol=atol, rtol=0
    )


def test_nothing_is_read_back_from_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors on "meta" have no contents: whoever asks for them, or for a number of them, gets an error.
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())
    images = torch.empty(8, 3, 30, 40, dtype=torch.uint8, device="meta")
    view = Augment(STRONG, 20, 0, torch.bfloat16)(images, torch.arange(8), 0, 0)
    assert view.shape == (8, 3, 20, 20)
    assert view.device.type == "meta"
