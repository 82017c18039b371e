"""Corruptions of normalised views, on the device, with parameters of their own for every image.

They are those of arXiv 2107.13973, which trains SimCLR on pairs of an image and its corrupted version. Lengths
are shares of the view's side, so that they scale with it. As in `discern.images.views`, what happens to an image
is a function of (seed, epoch, view, image number): it is drawn where the image numbers lie, on the CPU, and
nothing here waits for the device.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from discern.images.randomness import Stream, uniform
from discern.images.tiles import moved, shuffled
from discern.images.views import MEAN, STD, denormalise, normalise
from discern.methods.pretext.corrupted.corners import corner_response, mean_position

BLACK = [(0 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]  # of a normalised view
WHITE = [(1 - mean) / std for mean, std in zip(MEAN, STD, strict=True)]


class Corruption:
    """One way to damage views; one for each kind of parameters in `discern.params.corruption`."""

    def __call__(self, x: Tensor, index: Tensor, seed: int, epoch: int, view: int) -> Tensor:
        """Corrupted views.

        Args:
            x: normalised views (N, 3, S, S) of any float type.
            index: image numbers (N,), int64; best on the CPU.
            seed: of the random numbers.
            epoch: with the view and the image's number, decides them.
            view: number of the view.

        Returns:
            (N, 3, S, S), of x's type, channels last.
        """
        with torch.autocast(x.device.type, enabled=False):
            u = uniform(index, self.draws, seed, epoch, view, Stream.CORRUPTION)
            # About 100 bytes per image, as small as they can be: the driver takes the copy at once.
            parameters = self.parameters(u, x.shape[3]).to(x.device, non_blocking=True)
            corrupted = self.apply(x, parameters).to(x.dtype)
        return corrupted.contiguous(memory_format=torch.channels_last)

    @property
    def draws(self) -> int:
        """Uniform numbers per image."""
        raise NotImplementedError

    def parameters(self, u: Tensor, size: int) -> Tensor:
        """What happens to each image (N, P), of uniform numbers (N, draws) and the side in pixels."""
        raise NotImplementedError

    def apply(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Views (N, 3, S, S) to which that has happened."""
        raise NotImplementedError


@dataclass(frozen=True)
class Gamma(Corruption):
    """Values in [0, 1] to a random power."""

    exponent: tuple[float, float]
    draws = 1

    def parameters(self, u: Tensor, size: int) -> Tensor:  # noqa: ARG002  # the same at every size
        """Exponents (N, 1), float32."""
        return between(u, self.exponent)

    def apply(self, x: Tensor, parameters: Tensor) -> Tensor:
        """In float32: bfloat16 has too few digits near white."""
        return normalise(denormalise(x.float()) ** parameters[:, :, None, None])


@dataclass(frozen=True)
class CoarseDropout(Corruption):
    """Black square holes of random number, sides and places; they may overlap (DeVries & Taylor 2017)."""

    holes: tuple[int, int]
    side: tuple[float, float]

    @property
    def draws(self) -> int:
        """The number of holes; side, top and left of as many as there may be."""
        return 1 + 3 * self.holes[1]

    def parameters(self, u: Tensor, size: int) -> Tensor:
        """Tops, lefts and sides (N, 3 * most holes) in pixels, int16; the side of a hole too many is 0."""
        low, high = self.holes
        count = low + whole(u[:, :1], high - low + 1)
        side, top, left = u[:, 1:].chunk(3, dim=1)
        side = (between(side, self.side) * size).round().clamp(1, size)
        top, left = whole(top, size - side + 1), whole(left, size - side + 1)
        side = side * (torch.arange(high, device=u.device) < count)
        return torch.cat([top, left, side], dim=1).to(torch.int16)

    def apply(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Every pixel that is in a hole's rows and columns."""
        top, left, side = parameters.chunk(3, dim=1)
        rows, columns = (within(first, side, x.shape[3]).float() for first in (top, left))  # (N, holes, S)
        return torch.where((rows.mT @ columns > 0).unsqueeze(1), colour(BLACK, x), x)


@dataclass(frozen=True)
class CroppedRegion(Corruption):
    """All white but a square window round the mean position of the image's corners, which stays in its place.

    The window is moved into the image where it would reach beyond. Corners are weighted by their response; those
    below `quality` times the image's strongest do not count (as in OpenCV's goodFeaturesToTrack). In an image
    without corners the window is in the middle.
    """

    side: tuple[float, float]
    quality: float
    draws = 1

    def parameters(self, u: Tensor, size: int) -> Tensor:
        """The window's side (N, 1) in pixels, int16."""
        return (between(u, self.side) * size).round().clamp(1, size).to(torch.int16)

    def apply(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Where the window is depends on the image: found on the device."""
        centre = mean_position(corner_response(x), self.quality)  # (N, 2)
        first = (centre - parameters / 2).round()
        first = torch.minimum(first.clamp(min=0), x.shape[3] - parameters)
        rows, columns = within(first, parameters, x.shape[3]).unbind(1)  # (N, S) each
        return torch.where((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), x, colour(WHITE, x))


@dataclass(frozen=True)
class PatchSwap(Corruption):
    """Two square patches change places: one from the left half of the image, one from the right."""

    side: float
    draws = 4

    def parameters(self, u: Tensor, size: int) -> Tensor:
        """Tops, then lefts, of the left and the right patch (N, 4) in pixels, int16."""
        side, half = self._pixels(size), size // 2
        top, left = whole(u[:, :2], size - side + 1), whole(u[:, 2:], half - side + 1)
        return torch.cat([top, left[:, :1], left[:, 1:] + (size - half)], dim=1).to(torch.int16)

    def apply(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Each patch is read from where the other one is."""
        size = x.shape[3]
        top, left = parameters.long().chunk(2, dim=1)  # (N, 2) each
        rows, columns = (within(first, self._pixels(size), size) for first in (top, left))
        patches = rows.unsqueeze(3) & columns.unsqueeze(2)  # (N, 2, S, S)
        first = top * size + left
        other = (first.flip(1) - first)[:, :, None, None]
        return moved(x, (patches * other).sum(1))

    def _pixels(self, size: int) -> int:
        return min(max(round(self.side * size), 1), size // 2)


@dataclass(frozen=True)
class RandomJigsaw(Corruption):
    """The tiles of a grid in random order, every order as likely as another.

    Tiles have whole pixels. What is left where the grid does not divide the side, fewer than `grid` pixels, is
    shared between opposite borders and stays as it is.
    """

    grid: int

    @property
    def draws(self) -> int:
        """One for each tile."""
        return self.grid**2

    def parameters(self, u: Tensor, size: int) -> Tensor:  # noqa: ARG002  # the same at every size
        """Which tile comes to each place of the grid (N, grid * grid), row by row, int16."""
        return u.argsort(dim=1, stable=True).to(torch.int16)

    def apply(self, x: Tensor, parameters: Tensor) -> Tensor:
        """Whole tiles move, all pixels of one by as much."""
        return shuffled(x, self.grid, parameters.long())


@dataclass(frozen=True)
class DCLJigsaw(RandomJigsaw):
    """Destruction and construction learning's local shuffle of a grid's tiles (Chen et al., CVPR 2019).

    The tiles j of each row are sorted by j + U(-reach, reach), then those of each column likewise, so that none
    moves by 2 * reach tiles or more along an axis.
    """

    reach: float

    @property
    def draws(self) -> int:
        """Two for each tile."""
        return 2 * self.grid**2

    def parameters(self, u: Tensor, size: int) -> Tensor:  # noqa: ARG002  # the same at every size
        """Which tile comes to each place of the grid (N, grid * grid), row by row, int16."""
        number = torch.arange(self.grid, device=u.device)
        noise = (self.reach * (2 * u - 1)).view(-1, 2, self.grid, self.grid)
        column = (noise[:, 0] + number).argsort(
            dim=2, stable=True
        )  # (N, grid, grid): of the tile, by row and place
        row = (noise[:, 1] + number.unsqueeze(1)).argsort(dim=1, stable=True)
        return (row * self.grid + column.gather(1, row)).flatten(1).to(torch.int16)


KINDS: dict[str, type[Corruption]] = {
    "gamma": Gamma, "coarse_dropout": CoarseDropout, "cropped_region": CroppedRegion, "patch_swap": PatchSwap,
    "random_jigsaw": RandomJigsaw, "dcl_jigsaw": DCLJigsaw,
}  # fmt: skip


def build_corruption(kind: str, **settings: Any) -> Corruption:
    """A corruption by its kind and the other parameters of it."""
    return KINDS[kind](**settings)


def between(u: Tensor, limits: tuple[float, float]) -> Tensor:
    """Uniform numbers in [0, 1) as ones between two limits."""
    low, high = limits
    return low + (high - low) * u


def whole(u: Tensor, count: Tensor | int) -> Tensor:
    """Uniform numbers in [0, 1) as whole ones, from 0 to count - 1, of u's type."""
    return (u * count).floor()


def within(first: Tensor, length: Tensor | int, size: int) -> Tensor:
    """Which pixels (N, K, size) of a line are among the `length` (N, K) from the `first` (N, K) on."""
    distance = torch.arange(size, device=first.device) - first.unsqueeze(2)
    return (distance >= 0) & (distance < (length.unsqueeze(2) if isinstance(length, Tensor) else length))


def colour(values: list[float], x: Tensor) -> Tensor:
    """A colour (3, 1, 1) of x's type, where x lies."""
    return torch.tensor(values, dtype=x.dtype).view(3, 1, 1).to(x.device, non_blocking=True)
