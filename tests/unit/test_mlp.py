"""The MLP probe: what it learns, and what must not matter."""

import numpy as np
import pytest
import torch

from discern.evaluation import mlp, probe
from discern.params.evaluation import Mlp

PARAMS = Mlp(hidden=32, epochs=60, lr=1.0e-2, weight_decay=0.0, batch_size=32, seed=0)
CPU = torch.device("cpu")


def exclusive_or(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that no plane separates, in dimensions of unequal scale, with one dead dimension."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 4))
    labels = (features[:, 0] > 0) ^ (features[:, 1] > 0)
    features = features * np.array([100.0, 0.01, 1.0, 0.0]) + 7
    return features.astype(np.float32), labels.astype(np.int64)


def test_learns_what_a_linear_probe_cannot() -> None:
    train, test = exclusive_or(600, 0), exclusive_or(300, 1)
    linear = probe.score(probe.fit(train, train, 2, [0.1]), *test).correct.mean()
    assert linear < 0.65
    assert (mlp.predict(train, test[0], PARAMS, CPU) == test[1]).mean() > 0.9


def test_is_deterministic_and_leaves_the_generator_alone() -> None:
    train, test = exclusive_or(100, 0), exclusive_or(300, 1)
    short = PARAMS.model_copy(update={"epochs": 3})
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = mlp.predict(train, test[0], short, CPU)
    assert torch.rand(1) == expected
    np.testing.assert_array_equal(first, mlp.predict(train, test[0], short, CPU))
    other = mlp.predict(train, test[0], short.model_copy(update={"seed": 1}), CPU)
    assert (first != other).any()


def test_unlabelled_rows_are_left_out() -> None:
    features, labels = exclusive_or(200, 0)
    some = np.where(np.arange(200) % 3 == 0, -1, labels)
    known = some >= 0
    short = PARAMS.model_copy(update={"epochs": 5})
    queries = exclusive_or(100, 1)[0]
    np.testing.assert_array_equal(
        mlp.predict((features, some), queries, short, CPU),
        mlp.predict((features[known], labels[known]), queries, short, CPU),
    )


@pytest.mark.parametrize("numbers", [(2, 7), (0, 3)])
def test_only_classes_that_training_shows_are_named(numbers: tuple[int, int]) -> None:
    features, labels = exclusive_or(100, 0)
    named = mlp.predict((features, np.array(numbers)[labels]), features, PARAMS, CPU)
    assert set(named) == set(numbers)
