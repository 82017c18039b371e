"""Where the corners of an image are, for a batch on the device."""

import torch
import torch.nn.functional as F
from torch import Tensor

from discern.images.views import LUMA, STD

FLAT = 1e-7  # a corner's response below this is rounding: a corner of one level of 255 has about 1e-6


def corner_response(x: Tensor) -> Tensor:
    """Shi and Tomasi's corner response (1994) of normalised views (N, 3, S, S), as (N, S, S) in float32.

    It is the smaller eigenvalue of the gradients' second moments over 3x3 pixels. By shifts rather than by a
    convolution, whose rounding can depend on the size of the batch.
    """
    planes = [weight * std * plane.float() for plane, weight, std in zip(x.unbind(1), LUMA, STD, strict=True)]
    grey = F.pad((planes[0] + planes[1] + planes[2]).unsqueeze(1), (1, 1, 1, 1), mode="replicate")
    down, across = grey[:, :, 2:] - grey[:, :, :-2], grey[..., 2:] - grey[..., :-2]
    down = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 8  # Sobel's filter
    across = (across[:, :, :-2] + 2 * across[:, :, 1:-1] + across[:, :, 2:]) / 8
    moments = torch.cat([down * down, across * across, down * across], dim=1)
    vertical, horizontal, mixed = F.avg_pool2d(moments, 3, stride=1, padding=1).unbind(1)
    return (vertical + horizontal) / 2 - (((vertical - horizontal) / 2) ** 2 + mixed**2).sqrt()


def mean_position(response: Tensor, quality: float) -> Tensor:
    """Mean row and column (N, 2), from 0 to S, of responses (N, S, S) above a share of each image's maximum."""
    least = (quality * response.amax((1, 2), keepdim=True)).clamp(min=FLAT)
    weight = torch.where(response >= least, response, 0)
    # In float64, so that the order of summation does not decide which pixel a mean is rounded to.
    lines = torch.stack([weight.sum(2, dtype=torch.float64), weight.sum(1, dtype=torch.float64)], dim=1)
    size = response.shape[2]
    position = torch.arange(size, device=response.device, dtype=torch.float64) + 0.5
    total = lines.sum(2)
    mean = (lines * position).sum(2) / total.clamp(min=FLAT)
    return torch.where(total > 0, mean, size / 2)
