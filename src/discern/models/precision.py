"""Where autocast's half precision ends: features, embeddings and losses are computed at full precision."""

import torch
from torch import Tensor


def full(x: Tensor) -> Tensor:
    """The tensor in float32, or as it is where it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
