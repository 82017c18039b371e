import math

import numpy as np
import pytest

from discern.embedding import features as features_module
from discern.evaluation.label_free import label_free


@pytest.fixture
def views() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 6)) + 0.5
    return features, features + 0.6 * rng.normal(size=(40, 6)), features + 0.6 * rng.normal(size=(40, 6))


def unit(row: np.ndarray) -> np.ndarray:
    return np.asarray(row / math.sqrt(sum(float(v) ** 2 for v in row)))


def test_every_figure_equals_a_loop(views: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    features, first, second = views
    result = label_free(features, first, second)
    n, d = features.shape

    alignment = sum(float(((unit(a) - unit(b)) ** 2).sum()) for a, b in zip(first, second, strict=True)) / n
    assert result.alignment == pytest.approx(alignment, rel=1e-5)

    potentials = [
        math.exp(-2 * float(((unit(features[i]) - unit(features[j])) ** 2).sum()))
        for i in range(n)
        for j in range(i)
    ]
    assert result.uniformity == pytest.approx(math.log(sum(potentials) / len(potentials)), rel=1e-5)

    matched = 0
    for i in range(n):
        similarity = [float(unit(first[i]) @ unit(second[j])) for j in range(n)]
        matched += similarity.index(max(similarity)) == i
    assert result.view_rank1 == matched / n
    assert 0.1 < result.view_rank1 < 0.95

    sigma = np.linalg.svd(features, compute_uv=False)
    entropy = -sum(s / sigma.sum() * math.log(s / sigma.sum()) for s in sigma)
    assert result.effective_rank == pytest.approx(math.exp(entropy), rel=1e-9)

    rows = np.stack([unit(row) for row in features])
    std = sum(float(np.std(rows[:, k], ddof=1)) for k in range(d)) / d * math.sqrt(d)
    assert result.std == pytest.approx(std, rel=1e-5)


def test_blocks_do_not_change_the_result(
    views: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = label_free(*views)
    monkeypatch.setattr(features_module, "BLOCK", 7 * 40)
    parts = label_free(*views)
    assert parts.view_rank1 == whole.view_rank1
    assert parts.uniformity == pytest.approx(whole.uniformity, rel=1e-6)


def test_collapse_and_its_opposite() -> None:
    rng = np.random.default_rng(0)
    collapsed = np.ones((500, 32)) * rng.uniform(0.5, 2, size=(500, 1))
    spread = rng.normal(size=(500, 32))
    down = label_free(collapsed, collapsed, collapsed)
    up = label_free(spread, spread, spread)
    assert down.std == pytest.approx(0, abs=1e-5)
    assert down.uniformity == pytest.approx(0, abs=1e-5)
    assert down.effective_rank == pytest.approx(1, abs=1e-4)
    assert up.std == pytest.approx(1, abs=0.02)
    assert up.effective_rank > 30
    assert up.uniformity < -3
    assert up.view_rank1 == 1
    assert up.alignment == 0


def test_opposite_views_have_alignment_four() -> None:
    features = np.random.default_rng(0).normal(size=(20, 4))
    assert label_free(features, features, -features).alignment == pytest.approx(4, rel=1e-6)


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_effective_rank_of_equal_singular_values_is_their_number(shape: tuple[int, int]) -> None:
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(max(shape), min(shape))))
    features = q if shape[0] > shape[1] else q.T
    assert label_free(features, features, features).effective_rank == pytest.approx(8, rel=1e-6)
