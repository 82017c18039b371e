"""The permutation set against a greedy choice written as loops, its distances, and its advantage over chance."""

import itertools
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from discern.methods.pretext.jigsaw.permutations import permutation_set, smallest_distance


def distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    return sum(int(a != b) for a, b in zip(one, other, strict=True))


def test_every_choice_is_the_furthest_from_those_before() -> None:
    chosen = permutation_set(30, tiles=5)
    every = np.array(list(itertools.permutations(range(5))), dtype=np.uint8)
    assert list(chosen[0]) == [0, 1, 2, 3, 4]
    for count in range(1, len(chosen)):
        nearest = [min(distance(p, before) for before in chosen[:count]) for p in every]
        # The first of them, as it comes in the alphabet.
        assert list(chosen[count]) == list(every[nearest.index(max(nearest))])


@pytest.mark.parametrize(("count", "expected"), [(2, 9), (9, 9), (17, 8), (100, 6), (1000, 5)])
def test_smallest_distance_of_nine_tiles_is_as_stated(count: int, expected: int) -> None:
    chosen = permutation_set(count)
    assert chosen.shape == (count, 9)
    assert (np.sort(chosen, axis=1) == np.arange(9)).all()
    assert len({tuple(p) for p in chosen.tolist()}) == count
    assert smallest_distance(chosen) == expected


def test_smallest_distance_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    some = np.stack([rng.permutation(9) for _ in range(20)]).astype(np.uint8)
    expected = min(distance(a, b) for a, b in itertools.combinations(some, 2))
    assert smallest_distance(some) == expected


def test_random_sets_are_closer() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        some = np.stack([rng.permutation(9) for _ in range(100)]).astype(np.uint8)
        assert smallest_distance(some) <= 4


def test_the_same_set_every_time_and_a_smaller_one_is_its_beginning() -> None:
    assert np.array_equal(permutation_set(100), permutation_set(100))
    assert np.array_equal(permutation_set(100)[:40], permutation_set(40))


def test_a_hundred_are_chosen_while_a_run_starts() -> None:
    start = time.process_time()
    permutation_set(100)
    assert time.process_time() - start < 3


def test_all_there_are() -> None:
    assert len({tuple(p) for p in permutation_set(24, tiles=4).tolist()}) == 24
    with pytest.raises(AssertionError, match="no more"):
        permutation_set(25, tiles=4)
