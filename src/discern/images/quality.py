"""How good decoded images are: PSNR and SSIM."""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def psnr(a: Tensor, b: Tensor) -> float:
    """Mean peak signal-to-noise ratio in dB of images (N, 3, H, W) in [0, 1]."""
    error = (a - b).pow(2).mean((1, 2, 3)).clamp(min=1e-12)
    return float((-10 * torch.log10(error)).mean())


def ssim(a: Tensor, b: Tensor) -> float:
    """Mean structural similarity (Wang et al. 2004) of images (N, 3, H, W) in [0, 1]; Gaussian window 11."""
    x = torch.arange(WINDOW, dtype=a.dtype) - WINDOW // 2
    gauss = torch.exp(-(x**2) / (2 * SIGMA**2))
    gauss = gauss / gauss.sum()
    kernel = torch.outer(gauss, gauss).expand(3, 1, WINDOW, WINDOW)

    def local(image: Tensor) -> Tensor:
        return F.conv2d(image, kernel, groups=3)

    mean_a, mean_b = local(a), local(b)
    var_a = local(a * a) - mean_a**2
    var_b = local(b * b) - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    bottom = (mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2)
    return float((top / bottom).mean())
