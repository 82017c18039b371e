"""Stateless random numbers: uniform, unrelated between keys, and the same wherever they are computed."""

import itertools

import pytest
import torch
from scipy import stats

from discern.images.randomness import seeded, uniform

COUNT = 100_000


def splitmix64(state: int) -> int:
    """The finaliser as its authors publish it, in Python's unlimited integers."""
    mask = 2**64 - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_numbers_are_those_of_splitmix64() -> None:
    gamma, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    index, key = [0, 1, 77, 2**40], (5, 0, 3)
    state = 0
    for part in key:
        state = splitmix64((state + part + gamma) & mask)
    expected = [
        [
            (splitmix64((splitmix64((state + i * gamma) & mask) + column * gamma) & mask) >> 40) / 2**24
            for column in range(3)
        ]
        for i in index
    ]
    assert uniform(torch.tensor(index), 3, *key).tolist() == expected


def test_uniform_in_distribution() -> None:
    u = uniform(torch.arange(COUNT), 8, 0, 0, 0)
    assert u.dtype == torch.float32
    # The numbers are fixed: a p-value below 0.001 would be bad luck once in a thousand rewritings.
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3
    assert all(stats.kstest(column.numpy(), "uniform").pvalue > 1e-3 for column in u.T)
    # Also for a hundred consecutive images of many epochs, what one batch sees.
    batches = torch.cat([uniform(torch.arange(100), 1, 0, epoch, 0) for epoch in range(500)])
    assert stats.kstest(batches.flatten().numpy(), "uniform").pvalue > 1e-3


def test_numbers_are_multiples_of_a_24_bit_step_below_one() -> None:
    scaled = uniform(torch.arange(COUNT), 16, 1).double() * 2**24
    assert (scaled == scaled.round()).all()
    assert 0 <= scaled.min() < 100
    assert 2**24 - 100 < scaled.max() < 2**24


def test_neighbours_are_not_correlated() -> None:
    index = torch.arange(COUNT)
    u = uniform(index, 8, 3, 5, 1)
    pairs = {f"index +{lag}": (u[:-lag], u[lag:]) for lag in (1, 2, 64)}
    pairs |= {f"column +{lag}": (u[:, :-lag], u[:, lag:]) for lag in (1, 2, 4)}
    pairs |= {"seed": (u, uniform(index, 8, 4, 5, 1)), "epoch": (u, uniform(index, 8, 3, 6, 1))}
    pairs |= {"view": (u, uniform(index, 8, 3, 5, 2)), "key's order": (u, uniform(index, 8, 5, 3, 1))}
    # The diagonal: an image's number and its epoch must not stand for one another.
    pairs["index and epoch"] = (u[1:], uniform(index[:-1], 8, 3, 6, 1))
    for name, (a, b) in pairs.items():
        # Of independent numbers, correlations are normal with a standard deviation of 1 / sqrt(count).
        limit = 4.5 / a.numel() ** 0.5
        both = torch.stack([a.flatten(), b.flatten()])
        for values in (both, (both - 0.5).abs()):
            r = float(torch.corrcoef(values)[0, 1])
            assert abs(r) < limit, (name, r, limit)


def test_numbers_do_not_depend_on_the_batch_or_the_number_of_columns() -> None:
    index = torch.tensor([7, 2, 500, 0])
    u = uniform(index, 5, 1, 2)
    assert torch.equal(uniform(index.flip(0), 5, 1, 2), u.flip(0))
    assert torch.equal(uniform(torch.arange(501), 5, 1, 2)[index], u)
    assert torch.equal(uniform(index[2:3], 3, 1, 2), u[2:3, :3])
    assert uniform(index[:0], 5, 1).shape == (0, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_numbers_are_the_same_on_the_gpu() -> None:
    index = torch.arange(COUNT)
    assert torch.equal(uniform(index.cuda(), 8, 3, 5, 1).cpu(), uniform(index, 8, 3, 5, 1))


def test_seeded_streams_differ_for_neighbouring_keys() -> None:
    draws = [torch.rand(4, generator=seeded(*key)) for key in [(0, 0), (0, 1), (1, 0), (0, 0, 0)]]
    assert all((a - b).abs().max() > 0.01 for a, b in itertools.combinations(draws, 2))
    assert torch.equal(torch.rand(4, generator=seeded(0, 1)), draws[1])


def test_seeded_streams_stay_what_they_were() -> None:
    # Published results depend on them.
    assert seeded(0, 1).initial_seed() == 3069472533636442495
    assert seeded(3, 7, 100).initial_seed() == 1083037601489915341
