"""Batch normalisation over the whole batch of several processes."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from discern.errors import ParamsError
from discern.models.collectives import total
from discern.models.precision import full

# What timm's `BatchNormAct2d` does after normalising; other subclasses may do anything at all.
AFTERWARDS = ["drop", "act"]


class SyncBatchNorm(nn.SyncBatchNorm):
    """Torch's own, and then whatever modules it holds."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, ...), then apply the modules inside one after another."""
        return _through(self, super().forward(x))


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation over all processes' rows, for devices that torch's own refuses (CPU)."""

    def _check_input_dim(self, x: Tensor) -> None:
        if x.ndim < 2:
            raise ValueError(f"expected (N, C, ...), got {x.ndim} dimensions")

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (N, C, ...) over all processes' rows and positions, then apply the modules inside."""
        return _through(self, self._normalised(x) if self.training else super().forward(x))

    def _normalised(self, x: Tensor) -> Tensor:
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


def _through(module: nn.Module, x: Tensor) -> Tensor:
    for child in module.children():
        x = child(x)
    return x


def synchronise(module: nn.Module, device: torch.device) -> None:
    """Replace every batch normalisation inside `module` by one over all processes; names and weights stay.

    So does what a subclass of torch's holds: timm's `BatchNormAct2d` drops and activates what it has normalised.

    Args:
        module: changed in place.
        device: torch's `SyncBatchNorm` on CUDA, `SharedBatchNorm` elsewhere.

    Raises:
        ParamsError: a subclass does what cannot be kept.
    """
    for name, child in module.named_children():
        if isinstance(child, SyncBatchNorm | SharedBatchNorm):
            continue
        if isinstance(child, _BatchNorm):
            inside = dict(child.named_children())
            if type(child).forward is not _BatchNorm.forward and [*inside] != AFTERWARDS:
                raise ParamsError(
                    f"base.sync_batch_norm: it cannot replace this encoder's {type(child).__name__};"
                    " set it to false, or train in one process"
                )
            kind = SyncBatchNorm if device.type == "cuda" else SharedBatchNorm
            shared = kind(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            shared.__dict__.update({k: v for k, v in child.__dict__.items() if k in ("_parameters", "_buffers")})
            for inner, after in inside.items():
                shared.add_module(inner, after)
            setattr(module, name, shared.train(child.training))
        else:
            synchronise(child, device)
