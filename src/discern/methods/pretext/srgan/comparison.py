"""How well a generator restores images it was not trained on, against bicubic upscaling: pictures and figures."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from discern.images.packed import evenly_spread
from discern.images.quality import psnr, ssim
from discern.images.views import to_unit
from discern.methods.pretext.srgan.networks import SCALE, bicubic, downscale

PICTURES = "super_resolution.npz"
FIGURES = "super_resolution.json"
SHOWN, SCORED = 12, 256  # images, at most
BATCH = 32


def write_comparison(
    folder: Path, images: npt.NDArray[np.uint8], device: torch.device, restore: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """Write super_resolution.npz and super_resolution.json.

    Args:
        folder: where to; it exists.
        images: (n, S, S, 3) uint8; up to 256 evenly spread ones are scored, up to 12 of these kept as pictures.
        device: where to compute.
        restore: low resolution (N, 3, S/4, S/4) in [0, 1] to (N, 3, S, S) in [0, 1].

    Returns:
        `psnr` and `ssim` of the restored images, `bicubic_psnr` and `bicubic_ssim`, and the number of `images`.
        Empty, and nothing written, where there are no images.
    """
    scored = images[evenly_spread(len(images), SCORED)]
    if not len(scored):
        return {}
    whole: dict[str, list[Tensor]] = {"low": [], "bicubic": [], "restored": [], "original": []}
    with torch.inference_mode():
        for start in range(0, len(scored), BATCH):
            block = torch.from_numpy(np.array(scored[start : start + BATCH])).to(device)
            original = to_unit(block.permute(0, 3, 1, 2))  # (N, 3, S, S)
            low = downscale(original)
            made = {"low": low, "bicubic": bicubic(low), "restored": restore(low), "original": original}
            for name, values in made.items():
                whole[name].append(values.float().cpu())
    tensors = {name: torch.cat(blocks) for name, blocks in whole.items()}
    figures = {"images": float(len(scored))}
    for name, prefix in (("restored", ""), ("bicubic", "bicubic_")):
        figures[f"{prefix}psnr"] = psnr(tensors[name], tensors["original"])
        figures[f"{prefix}ssim"] = ssim(tensors[name], tensors["original"])
    tensors["low"] = F.interpolate(tensors["low"], scale_factor=SCALE, mode="nearest")  # its pixels, to be seen
    rows = evenly_spread(len(scored), SHOWN)
    kept = {name: _levels(values[rows]) for name, values in tensors.items()}
    np.savez(folder / PICTURES, allow_pickle=False, **kept)
    (folder / FIGURES).write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return figures


def _levels(images: Tensor) -> npt.NDArray[np.uint8]:
    """Images (n, 3, S, S) in [0, 1] as uint8 (n, S, S, 3)."""
    levels: npt.NDArray[np.uint8] = (255 * images.clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy()
    return levels
