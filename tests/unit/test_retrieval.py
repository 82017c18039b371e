import numpy as np
import pytest
import torch

from discern.embedding import features as features_module
from discern.evaluation.retrieval import leave_one_out, nearest


def reference(features: np.ndarray, labels: np.ndarray) -> tuple[list[float], list[float], list[float]]:
    rank1: list[float] = []
    rank5: list[float] = []
    ap: list[float] = []
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for q in range(len(unit)):
        others = sorted((i for i in range(len(unit)) if i != q), key=lambda i: -float(unit[q] @ unit[i]))
        right = [bool(labels[i] == labels[q]) for i in others]
        if not any(right):
            for outcome in (rank1, rank5, ap):
                outcome.append(np.nan)
            continue
        rank1.append(float(right[0]))
        rank5.append(float(any(right[:5])))
        precisions, found = [], 0
        for position, hit in enumerate(right, start=1):
            if hit:
                found += 1
                precisions.append(found / position)
        ap.append(sum(precisions) / len(precisions))
    return rank1, rank5, ap


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.repeat(np.arange(8), 10), [8]])  # class 8 has a single image
    rng.shuffle(labels)
    centres = rng.normal(size=(9, 16))
    return centres[labels] + 1.5 * rng.normal(size=(len(labels), 16)), labels


@pytest.mark.parametrize("block", [1 << 22, 300, 1])
def test_equals_a_loop_in_any_block_size(
    data: tuple[np.ndarray, np.ndarray], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "BLOCK", block)
    result = leave_one_out(*data)
    rank1, rank5, ap = reference(*data)
    np.testing.assert_array_equal(result.rank1, rank1)
    np.testing.assert_array_equal(result.rank5, rank5)
    np.testing.assert_allclose(result.ap, ap, rtol=1e-12)
    assert result.excluded == 1
    assert 0.2 < np.nanmean(result.rank1) < 0.95  # the case tells right from wrong
    assert np.nanmean(result.rank5) > np.nanmean(result.rank1)


def test_a_neighbour_table_written_by_hand() -> None:
    # Directions on a circle; from the query at 0 degrees the others follow at 10, 25, 45, 70 degrees.
    angles = np.deg2rad([0.0, 10, 25, 45, 70])
    features = np.stack((np.cos(angles), np.sin(angles)), axis=1) * [[1], [5], [0.1], [2], [1]]
    labels = np.array([0, 1, 0, 1, 0])
    result = leave_one_out(features, labels)
    #  0: 10(1) 25(0) 45(1) 70(0)                     -> AP (1/2 + 2/4) / 2
    # 10: 0(0) 25(0) 45(1) 70(0)                      -> AP 1/3
    # 25: 10(1) 45(1) 0(0) 70(0)   [15, 20, 25, 45]   -> AP (1/3 + 2/4) / 2
    # 45: 25(0)|70(0) 10(1) 0(0)   [20, 25, 35, 45]   -> AP 1/3
    # 70: 45(1) 25(0) 10(1) 0(0)   [25, 45, 60, 70]   -> AP (1/2 + 2/4) / 2
    np.testing.assert_allclose(result.ap, [1 / 2, 1 / 3, 5 / 12, 1 / 3, 1 / 2])
    np.testing.assert_array_equal(result.rank1, [0, 0, 0, 0, 0])
    np.testing.assert_array_equal(result.rank5, [1, 1, 1, 1, 1])
    rows, similarity = nearest(features, 2)
    assert rows.tolist() == [[1, 2], [0, 2], [1, 3], [2, 4], [3, 2]]
    np.testing.assert_allclose(similarity[0], np.cos(angles[1:3]), rtol=1e-6)


def test_rank5_counts_the_fifth_and_not_the_sixth() -> None:
    angles = np.deg2rad([0.0, 3, 6, 9, 12, 15, 18])
    features = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    assert leave_one_out(features, np.array([0, 1, 1, 1, 1, 0, 1])).rank5[0] == 1
    assert leave_one_out(features, np.array([0, 1, 1, 1, 1, 1, 0])).rank5[0] == 0


def test_agrees_with_pytorch_metric_learning(data: tuple[np.ndarray, np.ndarray]) -> None:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    features, labels = data
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision"),
        k=len(labels) - 1,  # the whole gallery: with fewer, its mAP is another figure
        knn_func=CustomKNN(CosineSimilarity()),
        device=torch.device("cpu"),
    )
    expected = calculator.get_accuracy(torch.tensor(features).float(), torch.tensor(labels))
    result = leave_one_out(features, labels)
    assert np.nanmean(result.rank1) == pytest.approx(expected["precision_at_1"], abs=1e-9)
    assert np.nanmean(result.ap) == pytest.approx(expected["mean_average_precision"], abs=1e-6)


def test_excluded_queries_stay_in_the_gallery_of_others() -> None:
    angles = np.deg2rad([0.0, 5, 60])
    features = np.stack((np.cos(angles), np.sin(angles)), axis=1)
    result = leave_one_out(features, np.array([0, 1, 0]))  # the single one stands between the two
    np.testing.assert_array_equal(result.rank1, [0, np.nan, 0])
    np.testing.assert_allclose(result.ap, [0.5, np.nan, 0.5])
    assert result.excluded == 1


def test_an_exact_copy_is_not_mistaken_for_the_query() -> None:
    features = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.1, 1.0]])
    rows, similarity = nearest(features, 3)
    assert rows[0, 0] == 1
    assert rows[1, 0] == 0
    assert all(row not in found for row, found in enumerate(rows.tolist()))
    assert similarity[0, 0] == pytest.approx(1.0)
    np.testing.assert_array_equal(leave_one_out(features, np.array([0, 0, 1, 1])).rank1, [1, 1, 1, 1])


def test_nearest_gives_at_most_all_others() -> None:
    rows, similarity = nearest(np.eye(4), 12)
    assert rows.shape == similarity.shape == (4, 3)
