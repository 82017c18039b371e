"""Batched augmentation against torchvision's operations on single images."""

import pytest
import torch
import torchvision.transforms.v2.functional as tv

from discern.data.views import (
    LUMA,
    Augment,
    colour_affine,
    crop_flip,
    denormalise,
    gaussian_blur,
    normalise,
    seeded,
)
from discern.params.training import Views

OFF = Views(
    crop_area=(1.0, 1.0), flip=0, jitter=0, brightness=0, contrast=0, saturation=0, hue=0, grayscale=0, blur=0,
    blur_sigma=(0.1, 2.0),
)  # fmt: skip


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.25


def test_normalise_and_back(images: torch.Tensor) -> None:
    as_bytes = (images * 255).round().to(torch.uint8)
    expected = tv.normalize(as_bytes / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(normalise(as_bytes), expected)
    torch.testing.assert_close(denormalise(normalise(images)), images)


def test_crop_of_the_whole_image_changes_nothing_and_flip_mirrors(images: torch.Tensor) -> None:
    # ratio draw 0.5 is a square; draws of 0.5 for the position are the centre
    u = torch.tensor([[0.5, 0.5, 0.5, 0.5, 0.9]] * 4)
    torch.testing.assert_close(crop_flip(images, u, (1.0, 1.0), 0.5, 24), images, atol=1e-5, rtol=0)
    u[:, 4] = 0.1
    torch.testing.assert_close(crop_flip(images, u, (1.0, 1.0), 0.5, 24), images.flip(3), atol=1e-5, rtol=0)


def test_crop_is_torchvisions_resized_crop(images: torch.Tensor) -> None:
    u = torch.tensor([[0.0, 0.5, 0.0, 1.0, 0.9]] * 4)  # a quarter of the area, left edge, bottom
    ours = crop_flip(images, u, (0.25, 1.0), 0.5, 24)
    theirs = tv.resized_crop(images, top=12, left=0, height=12, width=12, size=[24, 24], antialias=False)
    # torchvision repeats the crop's edge where we see the image beyond it: compare the inside.
    torch.testing.assert_close(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("strength", "column", "operation"),
    [
        ("brightness", 1, tv.adjust_brightness),
        ("contrast", 2, tv.adjust_contrast),
        ("saturation", 3, tv.adjust_saturation),
    ],
)
def test_jitter_is_torchvisions(images: torch.Tensor, strength: str, column: int, operation: object) -> None:
    views = OFF.model_copy(update={"jitter": 1.0, strength: 0.4})
    u = torch.full((4, 6), 0.5)
    u[:, column] = torch.tensor([0.0, 0.3, 0.7, 1.0])
    matrix, offset = colour_affine(images, u, views)
    ours = (matrix @ images.flatten(2) + offset).clamp(0, 1).view(images.shape)
    for i, factor in enumerate((0.6, 0.84, 1.16, 1.4)):
        theirs = operation(images[i], factor)  # type: ignore[operator]  # one of three functions
        # torchvision's luma has fewer digits (0.2989) than the standard's (0.299).
        torch.testing.assert_close(ours[i], theirs, atol=5e-4, rtol=0)


def test_grayscale_and_hue(images: torch.Tensor) -> None:
    u = torch.full((4, 6), 0.5)
    matrix, offset = colour_affine(images, u, OFF.model_copy(update={"grayscale": 1.0}))
    gray = (matrix @ images.flatten(2) + offset).view(images.shape)
    luma = (images * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    torch.testing.assert_close(gray, luma.expand_as(images))
    # A third of a turn about the grey axis moves red to green to blue.
    u[:, 4] = 1.0
    matrix, _ = colour_affine(images, u, OFF.model_copy(update={"jitter": 1.0, "hue": 1 / 3}))
    red = torch.tensor([1.0, 0, 0])
    torch.testing.assert_close(matrix[0] @ red, torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(matrix[0] @ torch.ones(3), torch.ones(3))


def test_blur_is_torchvisions_with_a_sigma_for_each_image(images: torch.Tensor) -> None:
    sigma = torch.tensor([0.4, 0.8, 1.2, 1.6])
    ours = gaussian_blur(images, sigma, radius=4)
    for i in range(4):
        theirs = tv.gaussian_blur(images[i], kernel_size=[9, 9], sigma=[float(sigma[i])] * 2)
        torch.testing.assert_close(ours[i], theirs, atol=1e-5, rtol=0)


def test_a_view_depends_on_seed_epoch_view_and_image_but_not_on_the_batch(images: torch.Tensor) -> None:
    views = Views(
        crop_area=(0.3, 1.0), flip=0.5, jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1,
        grayscale=0.2, blur=0.5, blur_sigma=(4.0, 20.0),
    )  # fmt: skip
    augment = Augment(views, 24, seed=3, count=10)
    index = torch.tensor([7, 2, 5, 0])
    first = augment(images, index, epoch=1, view=0)
    alone = Augment(views, 24, seed=3, count=10)(images[2:3], index[2:3], epoch=1, view=0)
    torch.testing.assert_close(first[2:3], alone)
    for other in (
        augment(images, index, 2, 0),
        augment(images, index, 1, 1),
        augment(images, index.flip(0), 1, 0),
    ):
        assert (other - first).abs().max() > 0.05
    torch.testing.assert_close(augment(images, index, 1, 0), first)


def test_probabilities_are_met_in_distribution() -> None:
    views = OFF.model_copy(update={"grayscale": 0.3})
    x = torch.rand(1, 3, 8, 8, generator=seeded(1)).expand(2000, -1, -1, -1)
    out = denormalise(Augment(views, 8, seed=0, count=2000)(x, torch.arange(2000), 0, 0))
    gray = (out[:, 0] - out[:, 1]).abs().amax((1, 2)) < 1e-4
    assert abs(float(gray.float().mean()) - 0.3) < 0.03


def test_seeded_streams_differ_for_neighbouring_keys() -> None:
    draws = {key: torch.rand(4, generator=seeded(*key)) for key in [(0, 0), (0, 1), (1, 0), (0, 0, 0)]}
    values = list(draws.values())
    assert all((a - b).abs().max() > 0.01 for i, a in enumerate(values) for b in values[:i])
    torch.testing.assert_close(torch.rand(4, generator=seeded(0, 1)), draws[0, 1])
