import numpy as np
import pytest

from discern.evaluation import bootstrap
from discern.evaluation.bootstrap import mean_interval, over_seeds, paired_difference


def test_equals_a_loop_over_the_same_resampling() -> None:
    outcomes = np.random.default_rng(3).random(37)
    rng = np.random.default_rng(5)
    means = []
    for rows in rng.integers(37, size=(200, 37)):
        total = 0.0
        for row in rows:
            total += outcomes[row]
        means.append(total / 37)
    means.sort()
    interval = mean_interval(outcomes, samples=200, seed=5)
    assert interval.mean == pytest.approx(outcomes.mean())
    assert interval.low == pytest.approx(np.percentile(means, 2.5))
    assert interval.high == pytest.approx(np.percentile(means, 97.5))


def test_covers_a_known_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(400):
        interval = mean_interval(rng.random(200) < 0.7, samples=400, seed=trial)
        covered += interval.low <= 0.7 <= interval.high
    assert 0.92 <= covered / 400 <= 0.98


def test_width_is_that_of_the_normal_approximation() -> None:
    outcomes = np.repeat([1.0, 0.0], [600, 400])
    interval = mean_interval(outcomes, samples=4000, seed=0)
    half = 1.96 * np.sqrt(0.6 * 0.4 / 1000)
    assert interval.low == pytest.approx(0.6 - half, abs=0.004)
    assert interval.high == pytest.approx(0.6 + half, abs=0.004)


def test_pairing_narrows_the_interval_and_keeps_the_coverage() -> None:
    rng = np.random.default_rng(0)
    covered, narrower = 0, 0
    for trial in range(200):
        difficulty = rng.random(200)  # of the image, shared by both methods
        control = (difficulty + 0.1 * rng.normal(size=200) < 0.5).astype(float)
        ours = (difficulty + 0.1 * rng.normal(size=200) < 0.55).astype(float)
        paired = paired_difference(ours, control, samples=300, seed=trial)
        covered += paired.low <= 0.05 <= paired.high
        apart = [mean_interval(x, samples=300, seed=trial) for x in (ours, control)]
        narrower += (paired.high - paired.low) < sum((x.high - x.low) / 2 for x in apart)
    assert covered / 200 >= 0.9
    assert narrower == 200


def test_the_same_outcomes_differ_by_exactly_nothing() -> None:
    outcomes = np.random.default_rng(0).random(50) < 0.5
    interval = paired_difference(outcomes, outcomes, samples=100, seed=0)
    assert (interval.mean, interval.low, interval.high) == (0, 0, 0)
    assert not interval.excludes_zero


def test_sign_is_ours_minus_control() -> None:
    interval = paired_difference(np.ones(30), np.zeros(30), samples=100, seed=0)
    assert (interval.mean, interval.low, interval.high) == (1, 1, 1)
    assert interval.excludes_zero
    assert paired_difference(np.zeros(30), np.ones(30), samples=100, seed=0).excludes_zero


def test_seeds_are_averaged_per_image_first() -> None:
    by_seed = np.array([[1, 0, 1, 1], [0, 0, 1, 0]], dtype=float)
    expected = mean_interval([0.5, 0, 1, 0.5], samples=300, seed=1)
    assert mean_interval(by_seed, samples=300, seed=1) == expected
    control = np.zeros((3, 4))  # another number of seeds pairs all the same
    assert paired_difference(by_seed, control, samples=300, seed=1) == expected


def test_excluded_images_are_left_out_of_both() -> None:
    ours, control = np.array([1.0, np.nan, 0.0, 1.0]), np.array([0.0, 1.0, np.nan, 1.0])
    assert mean_interval(ours, 100, 0).mean == pytest.approx(2 / 3)
    assert paired_difference(ours, control, 100, 0) == mean_interval([1.0, 0.0], 100, 0)
    with pytest.raises(ValueError, match="no image"):
        mean_interval([np.nan, np.nan], 100, 0)


def test_outcomes_of_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 4"):
        paired_difference(np.ones(3), np.ones(4), samples=100, seed=0)


def test_blocks_of_draws_give_the_same_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = np.random.default_rng(0).random(64)
    whole = mean_interval(outcomes, samples=100, seed=0)
    monkeypatch.setattr(bootstrap, "_DRAWS", 64 * 7)
    assert mean_interval(outcomes, samples=100, seed=0) == whole


def test_same_seed_same_interval() -> None:
    outcomes = np.random.default_rng(0).random(64)
    assert mean_interval(outcomes, 100, 0) == mean_interval(outcomes, 100, 0)
    assert mean_interval(outcomes, 100, 0) != mean_interval(outcomes, 100, 1)


def test_spread_over_seeds() -> None:
    spread = over_seeds([0.5, 0.6, 0.7])
    assert spread.mean == pytest.approx(0.6)
    assert spread.std == pytest.approx(0.1)
    assert spread.seeds == 3
    assert over_seeds([0.5]).std is None
