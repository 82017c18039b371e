"""Batch normalisation over the whole batch of several processes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from discern.models.collectives import total
from discern.models.precision import full


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation over all processes' rows, for devices that torch's own refuses (CPU)."""

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"expected (N, C, ...), got {x.ndim} dimensions")

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, ...) by mean and variance over all processes' rows and positions."""
        if not self.training:
            return super().forward(x)
        dims = [d for d in range(x.ndim) if d != 1]
        wide = full(x)
        count = wide.new_full((1,), wide.numel() / wide.shape[1])
        sums = total(torch.cat([wide.sum(dims), wide.square().sum(dims), count]))  # (2 C + 1,)
        rows = sums[-1]
        mean, square = (sums[:-1] / rows).chunk(2)
        variance = square - mean.square()
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)  # type: ignore[union-attr]  # it is there, with the others
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
                unbiased = variance * rows / (rows - 1)
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        scale = (variance + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
        shift = (0 if self.bias is None else self.bias) - mean * scale
        normalised: Tensor = wide * scale.view(shape) + shift.view(shape)
        return normalised.to(x.dtype)


def synchronise(module: nn.Module, device: torch.device) -> None:
    """Replace every batch normalisation inside `module` by one over all processes; names and weights stay.

    Args:
        module: changed in place.
        device: torch's `SyncBatchNorm` on CUDA, `SharedBatchNorm` elsewhere.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            kind = nn.SyncBatchNorm if device.type == "cuda" else SharedBatchNorm
            shared = kind(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            shared.__dict__.update({k: v for k, v in child.__dict__.items() if k in ("_parameters", "_buffers")})
            setattr(module, name, shared.train(child.training))
        else:
            synchronise(child, device)
