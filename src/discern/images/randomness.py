"""Random numbers that are a function of their key: nothing to store, and nothing depends on what was drawn before.

Both kinds hash their key with splitmix64 (Steele et al. 2014), whose finaliser makes of any two different
numbers, neighbours too, two unrelated ones.
"""

from enum import IntEnum, unique

import torch
from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: its multiples fill the 64-bit numbers evenly
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
WORD = 2**64


@unique
class Stream(IntEnum):
    """What random numbers are for, the last part of their key: no two uses of one seed see the same numbers.

    The views of images have the keys 0 to 3, their own numbers.
    """

    ORDER = 100
    PAIR_COPY = 101
    ONLINE_PAIRS = 102
    OFFLINE_PAIRS = 103
    CONTROL = 104
    CORRUPTION = 105
    PUZZLE = 111
    PUZZLE_DROPOUT = 112
    TURN = 113
    HEAD_ORDER = 120
    HEAD_DROPOUT = 121
    TILES = 131
    MLP_ORDER = 140
    FINETUNE_ORDER = 141


def seeded(*key: int) -> torch.Generator:
    """A CPU generator for a key of small whole numbers, e.g. (seed, epoch, view)."""
    return torch.Generator().manual_seed(_state(key) % (WORD // 2))


def uniform(index: Tensor, columns: int, *key: int) -> Tensor:
    """Random numbers of images: a pure function of key, image number and column.

    Args:
        index: image numbers (N,), int64; the numbers are the same on every device.
        columns: numbers per image.
        key: small whole numbers, e.g. (seed, epoch, view).

    Returns:
        float32 (N, columns), uniform in [0, 1).
    """
    image = _finalise(index * _signed(GAMMA) + _signed(_state(key)))
    column = torch.arange(columns, device=index.device) * _signed(GAMMA)
    # float32 holds 24 bits exactly; one more could round up to 1.
    return _shifted(_finalise(image.unsqueeze(1) + column), 40).float().div_(2**24)


def _state(key: tuple[int, ...]) -> int:
    """64 bits for a key: one round of splitmix64 per part, so that neighbouring keys give unrelated streams."""
    state = 0
    for part in key:
        state = (state + part + GAMMA) % WORD
        state = ((state ^ (state >> 30)) * FACTORS[0]) % WORD
        state = ((state ^ (state >> 27)) * FACTORS[1]) % WORD
        state ^= state >> 31
    return state


def _finalise(state: Tensor) -> Tensor:
    """The same round for int64 tensors, whose products wrap around as unsigned ones do."""
    state = (state ^ _shifted(state, 30)) * _signed(FACTORS[0])
    state = (state ^ _shifted(state, 27)) * _signed(FACTORS[1])
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Shift right and fill with zeros, where int64's own shift repeats the sign."""
    return torch.bitwise_and(torch.bitwise_right_shift(state, bits), 2 ** (64 - bits) - 1)


def _signed(word: int) -> int:
    """The int64 of the same 64 bits."""
    return word - WORD if word >= WORD // 2 else word
