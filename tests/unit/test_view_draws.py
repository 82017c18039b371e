"""The augmentation's random draws against torchvision's, and what they depend on."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torchvision.transforms as single
from scipy import stats

from discern.images.randomness import seeded, uniform
from discern.images.views import DRAWS, PARAMETERS, STD, Augment, colour_affine, crop_boxes
from tests.unit.test_views import OFF, STRONG

COUNT = 4000


@pytest.fixture
def torchvisions_draws() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def same_distribution(ours: object, theirs: object) -> bool:
    # Both sets of draws are fixed: a p-value below 0.001 would be bad luck once in a thousand rewritings.
    return bool(stats.ks_2samp(np.asarray(ours), np.asarray(theirs)).pvalue > 1e-3)


@pytest.mark.usefixtures("torchvisions_draws")
@pytest.mark.parametrize(
    ("area", "height", "width"),
    [
        ((0.08, 1.0), 12_000, 12_000),
        ((0.9, 1.0), 12_000, 12_000),  # one view in seven is the whole image, after ten tries
        ((0.3, 1.0), 12_000, 24_000),
        ((0.9, 1.0), 24_000, 12_000),  # all views are the largest allowed crop, in the middle
    ],
)
def test_crops_are_distributed_as_torchvisions(area: tuple[float, float], height: int, width: int) -> None:
    # Sides of so many pixels that rounding to whole ones does not show.
    image = torch.empty(1).expand(3, height, width)
    draws = [single.RandomResizedCrop.get_params(image, list(area), [3 / 4, 4 / 3]) for _ in range(COUNT)]
    top, left, down, across = np.array(draws, dtype=np.float64).T
    ours = crop_boxes(uniform(torch.arange(COUNT), DRAWS[0], 0), area, height, width).double().numpy()
    our_down, our_across = ours[:, 1] - ours[:, 0], ours[:, 3] - ours[:, 2]
    assert (ours >= 0).all()
    assert (ours <= [height, height, width, width]).all()
    assert same_distribution(our_down * our_across, down * across)
    assert same_distribution(our_across / our_down, across / down)
    assert same_distribution(ours[:, 0], top)
    assert same_distribution(ours[:, 2], left)


@pytest.mark.usefixtures("torchvisions_draws")
def test_jitter_factors_are_distributed_as_torchvisions() -> None:
    theirs = single.ColorJitter(0.8, 0.4, 0.6, 0.2)
    ranges = (theirs.brightness, theirs.contrast, theirs.saturation, theirs.hue)
    draws = np.array([single.ColorJitter.get_params(*ranges)[1:] for _ in range(COUNT)])
    u = uniform(torch.arange(COUNT), 6, 0)

    def matrix(name: str, strength: float) -> torch.Tensor:
        return colour_affine(u, OFF.model_copy(update={"jitter": 1.0, name: strength}))[0]

    trace = matrix("saturation", 0.6).diagonal(dim1=1, dim2=2).sum(1)
    turned = matrix("hue", 0.2)
    sine = (turned[:, 1, 0] - turned[:, 0, 1]) * math.sqrt(3) / 2
    cosine = (turned.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    ours = {
        "brightness": matrix("brightness", 0.8)[:, 0, 0],
        "contrast": matrix("contrast", 0.4)[:, 0, 0],
        "saturation": (trace - 1) / 2,  # the trace of s I + (1 - s) luma is 1 + 2 s
        "hue": torch.atan2(sine, cosine) / (2 * math.pi),
    }
    for (name, factors), expected in zip(ours.items(), draws.T, strict=True):
        assert same_distribution(factors, expected), name
        assert expected.min() == pytest.approx(float(factors.min()), abs=0.01), name
        assert expected.max() == pytest.approx(float(factors.max()), abs=0.01), name


def test_probabilities_are_met() -> None:
    augment, index = Augment(STRONG, 96, seed=0), torch.arange(COUNT)
    parameters = augment.parameters(index, 0, 0, 110, 110)
    edges, sigma, affine, solarised = parameters.split_with_sizes(PARAMETERS, dim=1)
    colours = affine.view(-1, 3, 7)[:, :, :3] * torch.tensor(STD).view(3, 1) * 255
    gray = (colours - colours[:, :1]).abs().amax((1, 2)) < 1e-5
    untouched = (colours - torch.eye(3)).abs().amax((1, 2)) < 1e-5  # neither jittered nor gray
    rates = {
        "flip": (edges[:, 3] < edges[:, 2], 0.5),
        "gray": (gray, 0.2),
        "jitter": (~untouched, 1 - 0.2 * 0.8),
        "blur": (sigma > 0, 0.5),
        "solarize": (solarised > 0, 0.2),
    }
    for name, (seen, probability) in rates.items():
        error = math.sqrt(probability * (1 - probability) / COUNT)
        assert abs(float(seen.float().mean()) - probability) < 4 * error, name
    low, high = augment.sigma
    drawn = sigma[sigma > 0].numpy()
    assert stats.kstest(drawn, "uniform", args=(low, high - low)).pvalue > 1e-3


def test_a_view_depends_on_seed_epoch_view_and_image_but_not_on_the_batch() -> None:
    augment, index = Augment(STRONG, 24, seed=3), torch.tensor([7, 2, 500, 0])
    images = torch.rand(4, 3, 40, 40, generator=seeded(1))
    first = augment(images, index, epoch=1, view=0)
    alone = Augment(STRONG, 24, seed=3)(images[2:3], index[2:3], epoch=1, view=0)
    torch.testing.assert_close(first[2:3], alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(augment(images.flip(0), index.flip(0), 1, 0).flip(0), first, atol=1e-5, rtol=0)
    for other in (
        augment(images, index, 2, 0),
        augment(images, index, 1, 1),
        augment(images, index.flip(0), 1, 0),
        Augment(STRONG, 24, seed=4)(images, index, 1, 0),
    ):
        assert ((other - first).abs().amax((1, 2, 3)) > 0.05).all()
    assert torch.equal(augment(images, index, 1, 0), first)
