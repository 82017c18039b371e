"""Features without training against scikit-image and counting loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from skimage.feature import hog as reference_hog
from torch import Tensor

from discern.images.views import normalise
from discern.methods.build import Setup, build
from discern.methods.floors.histogram_hog import colour_histogram, hog
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder, has_feature_map
from discern.models.making import Making
from discern.models.weights import load_encoder, save_encoder
from discern.params.encoder import HistogramHOG, RawPixels
from discern.params.floors import Floor, HistogramHOGFloor, RawPixelsFloor
from discern.params.methods import kinds
from tests.methods import ENCODER

PIXELS = RawPixels(kind="raw_pixels", side=8)
HISTOGRAM = HistogramHOG(kind="histogram_hog", bins=4, side=32, pixels_per_cell=8)


def photographs(count: int, size: int) -> Tensor:
    """uint8 (N, 3, S, S): smooth shapes, so that gradients have every direction, and an even area."""
    noise = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = F.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)
    images[:, :, : size // 3] = 0.5
    return (images * 255).round().byte()


@pytest.mark.parametrize(("size", "cell"), [(32, 8), (33, 8), (40, 5), (64, 16), (16, 8)])
def test_gradients_are_scikit_images(size: int, cell: int) -> None:
    grey = photographs(5, size)[:, 0].double() / 255
    expected = np.stack(
        [
            reference_hog(image.numpy(), 9, (cell, cell), cells_per_block=(2, 2), block_norm="L2-Hys")
            for image in grey
        ]
    )
    for dtype in (torch.float64, torch.float32):
        found = hog(grey.to(dtype), cell)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-3)
    assert np.abs(expected).max() > 0.2


def test_straight_edges_fall_into_the_first_and_the_middle_orientation() -> None:
    """Rounding must not decide between 0 and 180 degrees, which are one."""
    across = torch.arange(16.0).expand(16, 16) / 16
    for image, orientation in ((across, 0), (-across, 0), (across.T, 4), (-across.T, 4)):
        cells = hog(image[None].contiguous(), 8).view(4, 9)
        assert (cells.argmax(1) == orientation).all()
        assert int((cells > 0).sum()) == 4


def test_colours_are_counted() -> None:
    images = photographs(3, 12)
    found = colour_histogram(images.float() / 255, 4)
    for image, row in zip(images, found, strict=True):
        expected = torch.zeros(4, 4, 4)
        for y in range(12):
            for x in range(12):
                red, green, blue = (int(level) * 4 // 256 for level in image[:, y, x])
                expected[red, green, blue] += 1 / 144
        torch.testing.assert_close(row, expected.flatten())


def test_both_parts_have_length_one_and_the_whole_its_dim() -> None:
    encoder = build_encoder(HISTOGRAM, 0)
    features = encoder(normalise(photographs(4, 48)))
    assert features.shape == (4, encoder.dim) == (4, 4**3 + 3 * 3 * 36)
    colours, edges = features.split([4**3, 3 * 3 * 36], dim=1)
    for part in (colours, edges):
        torch.testing.assert_close(part.norm(dim=1), torch.ones(4))
    images = photographs(4, 48).float() / 255
    torch.testing.assert_close(colours.square(), colour_histogram(images, 4))


def test_raw_pixels_are_the_small_image() -> None:
    encoder = build_encoder(PIXELS, 0)
    x = normalise(photographs(4, 16))
    features = encoder(x)
    assert features.shape == (4, encoder.dim) == (4, 192)
    small = F.interpolate(x, size=(8, 8), mode="bilinear", antialias=True)
    assert torch.equal(features, small.flatten(1))
    assert torch.equal(build_encoder(PIXELS.model_copy(update={"side": 16}), 0)(x), x.flatten(1))


@pytest.mark.parametrize(
    "params",
    [RawPixelsFloor(**PIXELS.model_dump()), HistogramHOGFloor(**HISTOGRAM.model_dump())],
)
def test_they_are_encoders_like_any_other(params: RawPixelsFloor | HistogramHOGFloor, tmp_path: Path) -> None:
    """Built as methods, saved and loaded, and the same under autocast: they have no weights to round."""
    built = build(params, Setup(build_encoder(ENCODER, 0), 24, 0))
    assert isinstance(built, ImageEncoder)
    assert not has_feature_map(built)
    assert params.kind in kinds(Floor)
    save_encoder(tmp_path, built, Making(16))
    x = normalise(photographs(4, 16))
    with torch.autocast("cpu", torch.bfloat16):
        again = load_encoder(tmp_path)(x)
    assert again.dtype == torch.float32
    assert torch.equal(again, built(x))


def test_a_block_must_fit() -> None:
    with pytest.raises(ValidationError, match="hold no block of 2x2 cells"):
        HistogramHOG(kind="histogram_hog", bins=4, side=16, pixels_per_cell=9)
