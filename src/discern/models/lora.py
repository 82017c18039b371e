"""Low-rank updates of attention (LoRA, Hu et al. 2022, arXiv 2106.09685): few weights train, the given stay."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from discern.errors import ParamsError

ATTENTION = ("qkv", "proj", "q_proj", "k_proj", "v_proj")  # timm's names of attention's linear layers


class LowRank(nn.Module):
    """W + B A, W fixed; B begins at 0, so that nothing changes before training.

    Args:
        weight: W (O, I).
        rank: r of A (r, I) and B (O, r).
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(rank, weight.shape[1]) / rank)
        self.B = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        """W (O, I) to the updated weight."""
        return weight + self.B @ self.A


def add_low_rank(encoder: nn.Module, rank: int) -> None:
    """Let nothing of a transformer train but low-rank updates of its attention's layers.

    Raises:
        ParamsError: the encoder has no such layers.
    """
    layers = [
        module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Linear) and ".attn." in f".{name}" and name.rpartition(".")[2] in ATTENTION
    ]
    if not layers:
        raise ParamsError(
            "base.adaptation.lora_rank: the encoder has no attention; write 0, or choose a vision transformer"
        )
    encoder.requires_grad_(False)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))


def merge_low_rank(encoder: nn.Module) -> None:
    """Write the updates into the weights: the encoder has its own names and costs again, and the same features."""
    for module in list(encoder.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
