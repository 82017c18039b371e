"""Moving the tiles of images, on the device."""

import torch
import torch.nn.functional as F
from torch import Tensor


def shuffled(x: Tensor, grid: int, order: Tensor) -> Tensor:
    """Images with the tiles of a grid in another order.

    Tiles have whole pixels. What is left where the grid does not divide the side, fewer than `grid` pixels, is
    shared between opposite borders and stays as it is.

    Args:
        x: (N, C, S, S).
        grid: tiles along a side.
        order: (N, grid^2) int64: which tile, counted by rows, comes to each place.
    """
    size = x.shape[3]
    tile = size // grid
    steps = torch.arange(grid, device=x.device) * tile
    first = (steps.unsqueeze(1) * size + steps).flatten()  # pixel of each tile, counted row by row
    shift = (first[order] - first).view(-1, grid, grid)
    shift = shift.repeat_interleave(tile, 1).repeat_interleave(tile, 2)
    left = size - grid * tile
    return moved(x, F.pad(shift, (left // 2, left - left // 2) * 2))


def moved(x: Tensor, shift: Tensor) -> Tensor:
    """Images (N, C, S, S) whose pixels are read `shift` (N, S, S) pixels further on, counted row by row."""
    source = shift.flatten(1) + torch.arange(shift[0].numel(), device=x.device)
    pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, S * S, C), without a copy where channels come last
    pixels = pixels.gather(1, source.unsqueeze(2).expand(-1, -1, x.shape[1]))
    return pixels.view(-1, *x.shape[2:], x.shape[1]).permute(0, 3, 1, 2)
