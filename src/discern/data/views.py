"""Random views of image batches, on the device, with parameters of their own for every image.

Randomness is a table drawn once per epoch and view from (seed, epoch, view) and read by image number, so a
view does not depend on the batch an image stands in: resuming, or another batch size, sees the same views.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from discern.params.training import Views

# ImageNet's statistics, so that torchvision's weights fit; any fixed pair would do for training from scratch.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)
DRAWS = 12  # uniform numbers used per view; see `Augment`


def to_unit(images: Tensor) -> Tensor:
    """uint8 images in [0, 255] to float32 in [0, 1]; float images pass through."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def normalise(images: Tensor) -> Tensor:
    """Images (N, 3, H, W), uint8 or float in [0, 1], to zero mean and unit variance (ImageNet's statistics)."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return (to_unit(images) - mean) / std


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`, clamped to [0, 1]."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return (images * std + mean).clamp(0, 1)


def seeded(*key: int) -> torch.Generator:
    """A CPU generator for a key of small whole numbers, e.g. (seed, epoch, view)."""
    state = 0
    for part in key:
        # One round of splitmix64 per part, so that neighbouring keys give unrelated streams.
        state = (state + part + 0x9E3779B97F4A7C15) & (2**64 - 1)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state ^= state >> 31
    return torch.Generator().manual_seed(state % (2**63))


class Augment:
    """Random crop, flip, colour jitter, grayscale and blur of a batch.

    Deviations from torchvision's per-image transforms, all cheap in a batch: the crop's sides are clamped
    instead of redrawn; jitter is applied in one order (brightness, contrast, saturation, hue) and clamped once;
    hue turns the colours about the grey axis instead of shifting HSV.

    Args:
        views: probabilities and strengths.
        size: side of the view in pixels.
        seed: of the random table.
        count: number of images; `index` of a call must be below it.
    """

    def __init__(self, views: Views, size: int, seed: int, count: int) -> None:
        self.views, self.size, self.seed, self.count = views, size, seed, count
        self._tables: dict[int, tuple[int, Tensor]] = {}

    def draws(self, index: Tensor, epoch: int, view: int) -> Tensor:
        """Uniform numbers (N, DRAWS) of these images in this epoch and view."""
        held, table = self._tables.get(view, (-1, torch.empty(0)))
        if held != epoch:
            table = torch.rand(self.count, DRAWS, generator=seeded(self.seed, epoch, view))
            self._tables[view] = (epoch, table)
        return table[index.cpu()]

    def __call__(self, images: Tensor, index: Tensor, epoch: int, view: int) -> Tensor:
        """Normalised views (N, 3, size, size) of images (N, 3, H, W), uint8 or float in [0, 1]."""
        u = self.draws(index, epoch, view).to(images.device)  # (N, DRAWS)
        # Autocast would round colours to bfloat16 inside the matrix products.
        with torch.autocast(images.device.type, enabled=False):
            x = crop_flip(to_unit(images), u[:, :5], self.views.crop_area, self.views.flip, self.size)
            matrix, offset = colour_affine(x, u[:, 5:11], self.views)
            # One matrix product per image does the whole colour jitter.
            flat = torch.baddbmm(offset, matrix, x.flatten(2))  # (N, 3, size*size)
            x = flat.clamp_(0, 1).view(x.shape)
            if self.views.blur > 0:
                x = self._blur(x, u[:, 11])
            return normalise(x).contiguous(memory_format=torch.channels_last)

    def _blur(self, x: Tensor, u: Tensor) -> Tensor:
        chosen = u < self.views.blur
        low, high = (sigma * self.size / 224 for sigma in self.views.blur_sigma)
        sigma = low + (high - low) * u[chosen] / self.views.blur  # u is uniform below the probability
        blurred = x.clone()
        blurred[chosen] = gaussian_blur(x[chosen], sigma, radius=max(1, math.ceil(2 * high)))
        return blurred


def crop_flip(x: Tensor, u: Tensor, area: tuple[float, float], flip: float, size: int) -> Tensor:
    """RandomResizedCrop and horizontal flip in one bilinear resampling.

    Args:
        x: images (N, 3, H, W) in [0, 1].
        u: uniform numbers (N, 5): area, aspect ratio, left, top, flip.
        area: share of the image's area kept, from and to.
        flip: probability of a horizontal flip.
        size: side of the result in pixels.
    """
    share = area[0] + (area[1] - area[0]) * u[:, 0]
    ratio = torch.exp((2 * u[:, 1] - 1) * math.log(4 / 3))
    width = torch.sqrt(share * ratio).clamp(max=1)  # as shares of the image's sides
    height = torch.sqrt(share / ratio).clamp(max=1)
    # affine_grid's coordinates run from -1 to 1, so a crop of share w has room 1 - w to either side.
    centre_x = (1 - width) * (2 * u[:, 2] - 1)
    centre_y = (1 - height) * (2 * u[:, 3] - 1)
    mirror = torch.where(u[:, 4] < flip, -1.0, 1.0)
    zero = torch.zeros_like(width)
    theta = torch.stack([width * mirror, zero, centre_x, zero, height, centre_y], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(theta, [len(x), 3, size, size], align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def colour_affine(x: Tensor, u: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """Colour jitter and grayscale as one matrix (N, 3, 3) and offset (N, 3, 1) for each image.

    Args:
        x: images (N, 3, H, W); only their mean colour is used, for contrast.
        u: uniform numbers (N, 6): whether to jitter, brightness, contrast, saturation, hue, whether grayscale.
        views: probabilities and strengths.
    """
    n, device = len(x), x.device
    luma = torch.tensor(LUMA, device=device)
    eye = torch.eye(3, device=device)
    jitter = (u[:, 0] < views.jitter).float().view(n, 1, 1)

    def factor(column: int, strength: float) -> Tensor:
        return 1 + jitter * strength * (2 * u[:, column].view(n, 1, 1) - 1)  # (N, 1, 1), 1 where not jittered

    matrix = factor(1, views.brightness) * eye
    mean = matrix @ x.mean((2, 3)).unsqueeze(2)  # (N, 3, 1) mean colour after brightness
    contrast = factor(2, views.contrast)
    matrix = contrast * matrix
    offset = (1 - contrast) * (luma @ mean.squeeze(2).T).view(n, 1, 1).expand(n, 3, 1)
    saturation = factor(3, views.saturation)
    colour = saturation * eye + (1 - saturation) * luma.expand(3, 3)
    colour = _hue_rotation((factor(4, views.hue) - 1).view(n) * 2 * math.pi) @ colour
    gray = (u[:, 5] < views.grayscale).view(n, 1, 1)
    colour = torch.where(gray, luma.expand(3, 3), colour)
    return colour @ matrix, colour @ offset


def _hue_rotation(angle: Tensor) -> Tensor:
    """Rotations (N, 3, 3) of RGB about the grey axis by `angle` radians (Rodrigues' formula)."""
    third = math.sqrt(1 / 3)
    cross = third * torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device)
    eye = torch.eye(3, device=angle.device)
    cos, sin = torch.cos(angle).view(-1, 1, 1), torch.sin(angle).view(-1, 1, 1)
    return cos * eye + sin * cross + (1 - cos) / 3


def gaussian_blur(x: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Separable Gaussian blur with a sigma of its own for each image.

    Args:
        x: images (N, 3, H, W).
        sigma: standard deviations (N,) in pixels.
        radius: taps to either side.
    """
    taps = torch.arange(-radius, radius + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma.view(-1, 1).clamp(min=1e-3)) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)  # (N, taps)
    for dim in (2, 3):
        pad = (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0)
        padded = F.pad(x, pad, mode="reflect")
        length = x.shape[dim]
        x = sum(
            (kernel[:, k].view(-1, 1, 1, 1) * padded.narrow(dim, k, length) for k in range(2 * radius + 1)),
            start=torch.zeros_like(x),
        )
    return x
