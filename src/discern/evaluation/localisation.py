"""Where a linear probe looks: Grad-CAM in closed form, and how much of it falls on the parts that matter.

For logit_c = w_c · y + b_c with y the mean of the feature map F (D,H',W') over positions, the gradient of the
logit is w_ck / (H'W') at every position, so Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) is
ReLU(sum_k w_ck / (H'W') F_k): no backward pass, no hooks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from discern.embedding.features import FloatArray, Precision, inference, inputs

if TYPE_CHECKING:
    from discern.models.encoder import ImageEncoder


@dataclass(frozen=True)
class Localisation:
    """Share of Grad-CAM energy inside part masks.

    Attributes:
        energy: (N,) share inside; NaN where the map is zero everywhere or the mask is empty.
        area: (N,) share of pixels that the mask covers, the chance level of `energy`; NaN at the same rows.
        excluded: number of those rows.
    """

    energy: npt.NDArray[np.float64]
    area: npt.NDArray[np.float64]
    excluded: int


def grad_cam(feature_map: Tensor, weight: Tensor, size: int) -> Tensor:
    """Grad-CAM of one linear logit per image.

    Args:
        feature_map: (N,D,H',W').
        weight: (N,D) the logit's weights on the pooled features.
        size: side of the result in pixels.

    Returns:
        (N,size,size), not normalised, >= 0; upsampled bilinearly.
    """
    height, width = feature_map.shape[2:]
    cam = torch.einsum("nk,nkhw->nhw", weight, feature_map).relu() / (height * width)
    return F.interpolate(cam[:, None], size=(size, size), mode="bilinear", align_corners=False)[:, 0]


def grad_cams(
    encoder: "ImageEncoder",
    images: npt.NDArray[np.uint8],
    weight: FloatArray,
    device: torch.device,
    batch_size: int,
    precision: Precision,
) -> Iterator[npt.NDArray[np.float32]]:
    """Grad-CAM (B,S,S) of successive batches of images (N,S,S,3), for the logit weights (N,D) of each."""
    weights = torch.as_tensor(np.asarray(weight, dtype=np.float32))
    # One batch at a time inside the context: a generator abandoned half-way must not leave it open.
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        with inference(encoder, device, precision):
            (x,) = inputs(images[rows], device, batch_size)
            feature_map = encoder.feature_map(x).float()
        yield grad_cam(feature_map, weights[rows].to(device), images.shape[1]).cpu().numpy()


def localise(
    encoder: "ImageEncoder",
    images: npt.NDArray[np.uint8],
    parts: npt.NDArray[np.bool_],
    weight: FloatArray,
    device: torch.device,
    batch_size: int,
    precision: Precision,
) -> Localisation:
    """Share of each image's Grad-CAM inside its part mask.

    Args:
        encoder: on `device`.
        images: (N,S,S,3) uint8.
        parts: (N,S,S) masks of the discriminative parts.
        weight: (N,D) weights of the true class' logit on the pooled features; a row of zeros (an image
            without a label, or of a class the probe has not seen) is excluded.
        device: where to compute.
        batch_size: images per forward pass.
        precision: as in `extract`.
    """
    energy, area = np.empty(len(images)), np.empty(len(images))
    start = 0
    for cams in grad_cams(encoder, images, weight, device, batch_size, precision):
        rows = slice(start, start + len(cams))
        masks = np.asarray(parts[rows])
        energy[rows], area[rows] = energy_inside(cams, masks), masks.mean(axis=(1, 2))
        start = rows.stop
    excluded = np.isnan(energy)
    area[excluded] = np.nan
    return Localisation(energy, area, int(excluded.sum()))


def energy_inside(cams: npt.NDArray[np.floating[Any]], masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Share (N,) of each map (N,S,S) inside its mask (N,S,S); NaN where either is empty."""
    total = cams.sum(axis=(1, 2), dtype=np.float64)
    inside = (cams * masks).sum(axis=(1, 2), dtype=np.float64)
    defined = (total > 0) & masks.any(axis=(1, 2))
    share: npt.NDArray[np.float64] = np.divide(inside, total, out=np.full(len(cams), np.nan), where=defined)
    return share


def heat_maps(cams: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """Maps (N,S,S) for drawing: each scaled by its own maximum to 0-255; a map of zeros stays zero."""
    peak = cams.max(axis=(1, 2), keepdims=True)
    scaled: npt.NDArray[np.uint8] = np.rint(255 * cams / np.where(peak > 0, peak, 1)).astype(np.uint8)
    return scaled
