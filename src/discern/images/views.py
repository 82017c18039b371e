"""Random views of image batches, on the device, with parameters of their own for every image.

Crop, flip, resizing and blur are linear and act on rows and columns alone, so all of them together are
A_y X A_x^T with two small matrices per image: two batched matrix products. Colour jitter and normalisation
together are a third. The random numbers are a function of (seed, epoch, view, image number), so a view does not
depend on the batch an image stands in: resuming, or another batch size, sees the same views.
"""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from discern.images.randomness import uniform
from discern.params.base import Views

# ImageNet's statistics, so that torchvision's weights fit; any fixed pair would do for training from scratch.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
LUMA = (0.299, 0.587, 0.114)
TRIES = 10  # of torchvision's RandomResizedCrop at a crop that fits
DRAWS = [2 * TRIES + 2, 1, 6, 2, 1]  # uniform numbers of a view: crop, flip, colour, blur, solarize
PARAMETERS = [4, 1, 21, 1]  # what they become: edges, sigma, colours, whether to solarise
UNCOLOURED = {
    "jitter": 0.0,
    "grayscale": 0.0,
    "solarize": 0.0,
    "blur": 0.0,
}  # views that are cropped and flipped alone
MIDDLE = 128  # the level that counts as 0, see `levels`


def to_unit(images: Tensor) -> Tensor:
    """uint8 images in [0, 255] to float32 in [0, 1]; float images pass through."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def normalise(images: Tensor) -> Tensor:
    """Images (N, 3, H, W), uint8 or float in [0, 1], to zero mean and unit variance (ImageNet's statistics)."""
    return (to_unit(images) - _per_channel(MEAN, images)) / _per_channel(STD, images)


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`, clamped to [0, 1]."""
    return (images * _per_channel(STD, images) + _per_channel(MEAN, images)).clamp(0, 1)


def to_uint8(images: Tensor) -> Tensor:
    """Images (N, 3, R, R) in [0, 1] to uint8 (N, R, R, 3) on the CPU."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu()


def resized(images: Tensor, side: int) -> Tensor:
    """Images (N, C, H, W) as (N, C, side, side), antialiased."""
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)


class Augment:
    """Random crop, flip, blur, colour jitter, grayscale and solarisation of a batch, and normalisation.

    Deviations from torchvision's transforms of single images: a crop need not begin and end between pixels; blur
    comes before the colours, with which it commutes but for clamping and for the mean that contrast is about;
    jitter has one order (brightness, contrast, saturation, hue) and is clamped once, after grayscale; hue turns
    the colours about the grey axis instead of shifting HSV.

    Args:
        views: probabilities and strengths.
        size: side of the view in pixels.
        seed: of the random numbers.
        dtype: of the views. In bfloat16 the images are also resampled in it: the views are within 3 of 255 levels
            of those in float32, on average 0.2.
    """

    def __init__(self, views: Views, size: int, seed: int, dtype: torch.dtype = torch.float32) -> None:
        self.views, self.size, self.seed, self.dtype = views, size, seed, dtype
        low, high = views.blur_sigma
        self.sigma = (low * size / 224, high * size / 224)
        self.radius = min(math.ceil(3 * self.sigma[1]), size - 1)

    def __call__(self, images: Tensor, index: Tensor, epoch: int, view: int) -> Tensor:
        """Normalised views of a batch.

        Args:
            images: (N, 3, H, W), uint8 or float in [0, 1].
            index: image numbers (N,), int64; best on the CPU, where drawing needs nothing of the device.
            epoch: with the view and the image's number, decides the random numbers.
            view: number of the view.

        Returns:
            (N, 3, size, size) of `dtype`, channels last.
        """
        # Autocast would round to bfloat16 where float32 is meant.
        with torch.autocast(images.device.type, enabled=False):
            parameters = self.parameters(index, epoch, view, *images.shape[2:])
            # One copy of 108 bytes per image, which the driver takes at once: nothing here waits for the device.
            parameters = parameters.to(images.device, non_blocking=True)
            edges, sigma, affine, solarised = parameters.split_with_sizes(PARAMETERS, dim=1)
            rows = resize_matrix(edges[:, 0], edges[:, 1], images.shape[2], self.size).to(self.dtype)
            columns = resize_matrix(edges[:, 2], edges[:, 3], images.shape[3], self.size).to(self.dtype)
            if self.views.blur > 0:
                # For all images, the identity for some: picking the others would save a twentieth of the time.
                blur = blur_matrix(sigma.squeeze(1), self.size, self.radius).to(self.dtype)
                rows, columns = blur @ rows, blur @ columns
            x = resample(levels(images, self.dtype), rows, columns)
            x = self._coloured(x.float(), affine.view(-1, 3, 7), solarised.unsqueeze(2) > 0)
            return x.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def changed(self, views: Mapping[str, Any], dtype: torch.dtype | None = None) -> "Augment":
        """The same random numbers with other probabilities or strengths, and another dtype where one is given."""
        altered = copy.copy(self)
        altered.views = self.views.model_copy(update=dict(views))
        altered.dtype = dtype or self.dtype
        return altered

    def parameters(self, index: Tensor, epoch: int, view: int, height: int, width: int) -> Tensor:
        """What happens to images (height, width) of these numbers, in float32 (N, 27), where `index` lies.

        Columns as in PARAMETERS: the crop's edges (top, bottom, left, right; left and right exchanged mirror the
        image), blur's sigma in pixels or 0, the matrix (3, 7) that makes normalised colours of a pixel's levels,
        the view's mean levels and 1, and whether to solarise.
        """
        u = uniform(index, sum(DRAWS), self.seed, epoch, view)
        crop, flip, colour, blur, solarize = u.split_with_sizes(DRAWS, dim=1)
        edges = crop_boxes(crop, self.views.crop_area, height, width)
        mirrored = torch.cat([edges[:, :2], edges[:, 2:].flip(1)], dim=1)
        edges = torch.where(flip < self.views.flip, mirrored, edges)
        low, high = self.sigma
        sigma = torch.where(blur[:, :1] < self.views.blur, low + (high - low) * blur[:, 1:], 0)
        affine = torch.cat(colour_affine(colour, self.views), dim=2)  # (N, 3, 6), for values in [0, 1]
        shift = MIDDLE / 255 * affine.sum(2, keepdim=True) - _per_channel(MEAN, u)[..., 0]
        affine = torch.cat([affine / 255, shift], dim=2) / _per_channel(STD, u)[..., 0]
        return torch.cat([edges, sigma, affine.flatten(1), (solarize < self.views.solarize).float()], dim=1)

    def _coloured(self, x: Tensor, affine: Tensor, solarised: Tensor) -> Tensor:
        """Normalised colours of levels (N, 3, size, size) by `affine` (N, 3, 7); inverted where `solarised`."""
        flat = x.flatten(2)
        offset = affine[:, :, 3:6] @ flat.mean(2, keepdim=True) + affine[:, :, 6:]
        x = torch.baddbmm(offset, affine[:, :, :3], flat).view(x.shape)
        # With numbers, not tensors, for each channel: they are part of the command and need no copy to the device.
        for plane, mean, std in zip(x.unbind(1), MEAN, STD, strict=True):
            plane.clamp_(-mean / std, (1 - mean) / std)
            if self.views.solarize > 0:
                bright = solarised & (plane >= (0.5 - mean) / std)
                plane.copy_(torch.where(bright, (1 - 2 * mean) / std - plane, plane))
        return x


def levels(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Images (N, 3, H, W), uint8 or float in [0, 1], as levels from -128 to 127, contiguous.

    bfloat16 holds all of them exactly, and counted from the middle its rounding errors are half of those from 0.
    """
    images = images.contiguous()
    if images.dtype == torch.uint8:
        return (images ^ MIDDLE).view(torch.int8).to(dtype)  # the highest bit becomes the sign
    return (images.float() * 255 - MIDDLE).to(dtype)


def resample(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Weighted sums (N, 3, h, w) of images' (N, 3, H, W) rows and columns, by matrices (N, h, H) and (N, w, W)."""
    across = x.flatten(1, 2) @ columns.mT
    return torch.matmul(rows.unsqueeze(1), across.view(*x.shape[:3], -1))


def crop_boxes(u: Tensor, area: tuple[float, float], height: int, width: int) -> Tensor:
    """RandomResizedCrop's boxes in images (height, width): top, bottom, left and right edge (N, 4) in pixels.

    Args:
        u: uniform numbers (N, 22): area and aspect ratio of ten tries, position from the top and the left.
        area: share of the image's area kept, from and to.
        height: of the images.
        width: of the images.
    """
    share, shape, position = u.split_with_sizes([TRIES, TRIES, 2], dim=1)
    pixels = height * width * (area[0] + (area[1] - area[0]) * share)
    ratio = torch.exp((2 * shape - 1) * math.log(4 / 3))
    down, across = torch.sqrt(pixels / ratio), torch.sqrt(pixels * ratio)  # (N, TRIES)
    fits = (down <= height) & (across <= width)
    # The first try that fits; in the column after the last one, the largest allowed crop, from the middle.
    first = F.pad(fits.int(), (0, 1), value=1).argmax(1, keepdim=True)
    down = F.pad(down, (0, 1), value=min(height, width * 4 / 3)).gather(1, first)
    across = F.pad(across, (0, 1), value=min(width, height * 4 / 3)).gather(1, first)
    position = torch.where(first < TRIES, position, 0.5)
    top, left = (height - down) * position[:, :1], (width - across) * position[:, 1:]
    return torch.cat([top, top + down, left, left + across], dim=1)


def resize_matrix(begin: Tensor, end: Tensor, length: int, size: int) -> Tensor:
    """Bilinear resizing of a part of a line, with torchvision's antialiasing, as matrices (N, size, length).

    Args:
        begin: edges (N,) of the part in pixels; a pixel that it holds in part counts in part.
        end: the other edges (N,); before `begin`, the result is mirrored.
        length: pixels of the line.
        size: pixels of the result.
    """
    begin, end = begin.view(-1, 1, 1), end.view(-1, 1, 1)
    steps = (torch.arange(size, device=begin.device).view(-1, 1) + 0.5) / size
    centre = begin + (end - begin) * steps  # (N, size, 1)
    reach = ((end - begin).abs() / size).clamp(min=1)  # of the triangular filter to either side
    # Only so many pixels can be within reach; from the first one on, or at the line's end.
    taps = min(length, math.ceil(2 * max(1, length / size)))
    first = (centre - reach + 0.5).floor().clamp(0, length - taps)
    pixel = first + torch.arange(taps, device=begin.device)  # (N, size, taps)
    weight = (1 - (pixel + 0.5 - centre).abs() / reach).clamp(min=0)
    held = torch.minimum(pixel + 1, torch.maximum(begin, end)) - torch.maximum(pixel, torch.minimum(begin, end))
    weight = weight * held.clamp(0, 1)
    weight = weight / weight.sum(2, keepdim=True)
    return weight.new_zeros(len(weight), size, length).scatter_(2, pixel.long(), weight)


def blur_matrix(sigma: Tensor, size: int, radius: int) -> Tensor:
    """Gaussian blur of a line that is mirrored at its ends, as matrices (N, size, size).

    Args:
        sigma: standard deviations (N,) in pixels; 0 changes nothing.
        size: pixels of the line.
        radius: pixels of the kernel to either side, fewer than `size`.
    """
    taps = torch.arange(-radius, radius + 1, device=sigma.device)
    kernel = torch.softmax(-0.5 * (taps / sigma.view(-1, 1).clamp(min=1e-3)) ** 2, dim=1)
    # Without the weights too small to matter: denormal ones would make the matrix products a third slower.
    kernel = torch.where(kernel > 1e-9, kernel, 0)
    source = (torch.arange(size, device=sigma.device) + taps.view(-1, 1)).abs()
    source = size - 1 - (size - 1 - source).abs()  # (taps, size), the pixel that each tap reads
    shifts = torch.eye(size, device=sigma.device)[source]
    return torch.mm(kernel, shifts.flatten(1)).view(-1, size, size)


def colour_affine(u: Tensor, views: Views) -> tuple[Tensor, Tensor]:
    """Colour jitter and grayscale as two matrices (N, 3, 3): of a pixel's colour and of the view's mean colour.

    Args:
        u: uniform numbers (N, 6): whether to jitter, brightness, contrast, saturation, hue, whether grayscale.
        views: probabilities and strengths.
    """
    luma = torch.tensor(LUMA, device=u.device).expand(3, 3)
    eye = torch.eye(3, device=u.device)
    strengths = torch.tensor([views.brightness, views.contrast, views.saturation, views.hue], device=u.device)
    changes = (u[:, :1] < views.jitter) * strengths * (2 * u[:, 1:5] - 1)  # (N, 4), 0 where not jittered
    brightness, contrast, saturation, hue = changes[..., None, None].unbind(1)  # (N, 1, 1) each
    brightness, contrast, saturation = 1 + brightness, 1 + contrast, 1 + saturation
    colour = saturation * eye + (1 - saturation) * luma
    colour = _hue_rotation(2 * math.pi * hue) @ colour
    colour = torch.where(u[:, 5:, None] < views.grayscale, luma, colour)
    # Contrast is about the mean's grey, and `colour` leaves greys as they are.
    return brightness * contrast * colour, brightness * (1 - contrast) * luma


def _hue_rotation(angle: Tensor) -> Tensor:
    """Rotations (N, 3, 3) of RGB about the grey axis by `angle` (N, 1, 1) radians (Rodrigues' formula)."""
    cross = math.sqrt(1 / 3) * torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device)
    eye = torch.eye(3, device=angle.device)
    return torch.cos(angle) * eye + torch.sin(angle) * cross + (1 - torch.cos(angle)) / 3


def _per_channel(values: tuple[float, ...], images: Tensor) -> Tensor:
    """Values (3, 1, 1) where the images lie."""
    return torch.tensor(values).view(3, 1, 1).to(images.device, non_blocking=True)
