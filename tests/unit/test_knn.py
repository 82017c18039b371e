import numpy as np
import pytest
import torch

from discern.embedding import features as features_module
from discern.embedding.knn import vote


def reference(train: np.ndarray, labels: np.ndarray, queries: np.ndarray, k: int, temperature: float) -> list[int]:
    predictions = []
    for query in queries:
        similarity = [float(np.dot(query, row) / np.linalg.norm(query) / np.linalg.norm(row)) for row in train]
        nearest = sorted(range(len(train)), key=lambda i: -similarity[i])[:k]
        votes: dict[int, float] = {}
        for i in nearest:
            votes[int(labels[i])] = votes.get(int(labels[i]), 0.0) + float(np.exp(similarity[i] / temperature))
        predictions.append(max(sorted(votes), key=lambda label: votes[label]))
    return predictions


def clusters(n: int, classes: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centres = np.random.default_rng(99).normal(size=(classes, dim))
    return centres[labels] + 1.8 * rng.normal(size=(n, dim)), labels


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equals_a_loop(k: int, temperature: float) -> None:
    train, labels = clusters(120, 6, 16, seed=0)
    queries, _ = clusters(60, 6, 16, seed=1)
    result = vote(train, labels, queries, k, temperature)
    assert result.predictions.tolist() == reference(train, labels, queries, k, temperature)
    assert result.k == k
    assert result.note is None


@pytest.mark.parametrize("k", [1, 20, 200])
def test_equals_lightly(k: int) -> None:
    from lightly.utils.benchmarking.knn import knn_predict  # the oracle

    train, labels = clusters(500, 10, 32, seed=0)
    queries, _ = clusters(200, 10, 32, seed=1)
    bank = torch.nn.functional.normalize(torch.tensor(train).float(), dim=1)
    points = torch.nn.functional.normalize(torch.tensor(queries).float(), dim=1)
    expected = knn_predict(points, bank.T, torch.tensor(labels), num_classes=10, knn_k=k, knn_t=0.07)[:, 0]
    assert vote(train, labels, queries, k, 0.07).predictions.tolist() == expected.tolist()


def test_near_neighbours_outweigh_many_far_ones() -> None:
    # one neighbour of class 1 at 0 degrees, three of class 0 at 60: exp(1/T) against 3 exp(0.5/T)
    train = np.array([[1.0, 0.0], [0.5, 0.866], [0.5, 0.866], [0.5, -0.866]])
    labels = np.array([1, 0, 0, 0])
    query = np.array([[2.0, 0.0]])
    assert vote(train, labels, query, 4, 0.1).predictions.tolist() == [1]  # e^5 > 3
    assert vote(train, labels, query, 4, 1.0).predictions.tolist() == [0]  # e^0.5 < 3


def test_k_above_the_training_set_is_clipped_and_noted() -> None:
    train, labels = clusters(8, 3, 4, seed=0)
    queries, _ = clusters(5, 3, 4, seed=1)
    result = vote(train, labels, queries, 20, 0.07)
    assert result.k == 8
    assert result.note is not None
    assert "20" in result.note
    assert "8" in result.note
    assert result.predictions.tolist() == reference(train, labels, queries, 8, 0.07)
    assert vote(train, labels, queries, 8, 0.07).note is None


def test_tiny_temperature_does_not_overflow() -> None:
    train, labels = clusters(50, 4, 8, seed=0)
    assert vote(train, labels, train, 5, 1e-3).predictions.tolist() == labels.tolist()


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = clusters(60, 5, 8, seed=0)
    queries, _ = clusters(47, 5, 8, seed=1)
    whole = vote(train, labels, queries, 7, 0.07).predictions
    monkeypatch.setattr(features_module, "BLOCK", 10 * 60)
    assert vote(train, labels, queries, 7, 0.07).predictions.tolist() == whole.tolist()
