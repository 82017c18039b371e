"""Frozen features of packed images: what every figure of the protocol is computed from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.errors import ModelError
from discern.images.views import normalise
from discern.training.device import autocast

FloatArray = npt.NDArray[np.floating[Any]]
Precision = Literal["fp32", "bf16"]
Prepare = Callable[[Tensor, Tensor], Tensor]
"""(images (B,3,S,S) uint8, their row numbers (B,)) → encoder input (B,3,S,S) float."""


class Extract(Protocol):
    """`extract` with everything fixed but the images."""

    def __call__(
        self, images: npt.NDArray[np.uint8], *, prepare: Prepare | None = None
    ) -> npt.NDArray[np.float32]:
        """(N,S,S,3) → (N,D)."""


# Elements of one block of a similarity matrix: 16 MB in float32, so that a block and its ranking stay small.
BLOCK = 1 << 22


def extract(
    encoder: nn.Module,
    images: npt.NDArray[np.uint8],
    device: torch.device,
    batch_size: int,
    precision: Precision,
    prepare: Prepare | None = None,
) -> npt.NDArray[np.float32]:
    """Pooled features of every image, in the order of `images`.

    Args:
        encoder: on `device`; called in evaluation mode, and left in the mode it came in.
        images: (N,S,S,3) uint8; may be memory-mapped.
        device: where to compute.
        batch_size: images per forward pass.
        precision: fp32, or bf16 autocast.
        prepare: makes the encoder's input; by default the images are only normalised.

    Returns:
        (N,D) float32.

    Raises:
        ModelError: the encoder gives NaN or infinite features.
    """
    with inference(encoder, device, precision):
        rows = [encoder(batch).float().cpu() for batch in inputs(images, device, batch_size, prepare)]
    features: npt.NDArray[np.float32] = torch.cat(rows).numpy()
    if not np.isfinite(features).all():
        raise ModelError(
            "the encoder gives features that are not finite; its training diverged: lower base.optimizer.lr"
        )
    return features


def inputs(
    images: npt.NDArray[np.uint8], device: torch.device, batch_size: int, prepare: Prepare | None = None
) -> Iterator[Tensor]:
    """Encoder inputs (B,3,S,S), channels last, of successive batches of `images` (N,S,S,3) uint8."""
    for start in range(0, len(images), batch_size):
        # A copy: a memory map is read-only, which torch tensors cannot be.
        block = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
        batch = block.permute(0, 3, 1, 2)  # (B,3,S,S), already channels last in memory
        index = torch.arange(start, start + len(block))
        # In full precision: autocast would round colours to bf16 inside the augmentation's matrix product.
        with torch.autocast(device.type, enabled=False):
            x = normalise(batch) if prepare is None else prepare(batch, index)
        yield x.contiguous(memory_format=torch.channels_last)


@contextmanager
def inference(encoder: nn.Module, device: torch.device, precision: Precision) -> Iterator[None]:
    """Evaluation mode without gradients; every module gets its own mode back afterwards."""
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.inference_mode(), autocast(device, precision):
            yield
    finally:
        for module, training in modes:
            module.training = training


def unit_rows(features: FloatArray, device: torch.device | None = None) -> Tensor:
    """Features (N,D) as a float32 tensor with rows of length 1 (rows of zeros stay zero)."""
    return F.normalize(torch.as_tensor(np.asarray(features, dtype=np.float32), device=device), dim=1)


def blocks(n_queries: int, n_gallery: int) -> Iterator[slice]:
    """Slices over the queries such that one block of the similarity matrix stays small."""
    step = max(1, BLOCK // max(1, n_gallery))
    for start in range(0, n_queries, step):
        yield slice(start, min(start + step, n_queries))
