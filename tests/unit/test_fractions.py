"""Label fractions: which images are drawn, and the figures against loops."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from discern.errors import ParamsError
from discern.evaluation import probe
from discern.evaluation.classification import confusion
from discern.evaluation.fractions import draw, fractions
from discern.params.evaluation import Fractions
from discern.params.load import load_text

SHARES = Fractions(shares=[0.1, 0.2, 0.5], subsets=3, seed=0)
COUNTS = [40, 25, 10, 3]
LABELS = np.repeat(np.arange(4), COUNTS)
PATHS = [f"class{label}/{i}.png" for i, label in enumerate(LABELS)]


def test_every_class_is_drawn_by_its_share_and_with_one_image_at_least() -> None:
    subsets = draw(PATHS, LABELS, SHARES)
    for subset in range(3):
        for number, share in enumerate(SHARES.shares):
            rows = subsets.rows(subset, number)
            expected = [max(1, round(share * count)) for count in COUNTS]
            assert np.bincount(LABELS[rows], minlength=4).tolist() == expected


def test_smaller_shares_lie_in_larger_ones_and_draws_differ() -> None:
    subsets = draw(PATHS, LABELS, SHARES)
    found = [[set(subsets.rows(subset, number)) for number in range(3)] for subset in range(3)]
    for small, middle, large in found:
        assert small < middle < large
    assert found[0][0] != found[1][0] != found[2][0]
    other = draw(PATHS, LABELS, SHARES.model_copy(update={"seed": 1}))
    assert set(other.rows(0, 0)) != found[0][0]


def test_draws_follow_from_the_paths_alone() -> None:
    subsets = draw(PATHS, LABELS, SHARES)
    order = np.random.default_rng(0).permutation(len(PATHS))
    moved = draw([PATHS[i] for i in order], LABELS[order], SHARES)
    np.testing.assert_array_equal(moved.smallest, subsets.smallest[:, order])
    # Written down, so that a change of the drawing is seen: it would make old figures incomparable.
    assert subsets.rows(0, 0).tolist() == [10, 19, 21, 30, 47, 50, 72, 76]


def test_table_names_the_smallest_share_of_every_image(tmp_path: Path) -> None:
    subsets = draw(PATHS, LABELS, SHARES)
    subsets.table(PATHS).to_csv(tmp_path / "subsets.csv", index=False)
    table = pd.read_csv(tmp_path / "subsets.csv")
    assert table.columns.tolist() == ["path", "subset", "share"]
    for subset in range(3):
        for number, share in enumerate(SHARES.shares):
            named = table[(table["subset"] == subset) & (table["share"] <= share)]["path"]
            assert named.tolist() == [PATHS[row] for row in subsets.rows(subset, number)]


def test_figures_equal_a_loop() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 6))
    y, y_val, y_test = (rng.integers(0, 4, n) for n in (80, 30, 60))
    train, val, test = (
        ((centres[labels] + 1.2 * rng.normal(size=(len(labels), 6))).astype(np.float32), labels)
        for labels in (y, y_val, y_test)
    )
    hidden = test[0], np.where(np.arange(60) < 10, -1, test[1])
    subsets = draw([str(i) for i in range(80)], y, SHARES)
    found = fractions(train, val, hidden, subsets, 4, [0.01, 1.0]).metrics["fractions"]
    for number, percent in enumerate((10, 20, 50)):
        accuracies = []
        for subset in range(3):
            rows = [row for row in range(80) if subsets.smallest[subset, row] <= number]
            fitted = probe.fit((train[0][rows], y[rows]), val, 4, [0.01, 1.0])
            right = [int(np.argmax(fitted.weight @ test[0][i] + fitted.bias)) == test[1][i] for i in range(10, 60)]
            accuracies.append(sum(right) / 50)
        assert found[f"top1_{percent}"] == pytest.approx(sum(accuracies) / 3)
        assert found[f"top1_{percent}_min"] == pytest.approx(min(accuracies))
        assert found[f"top1_{percent}_max"] == pytest.approx(max(accuracies))
        assert found[f"images_{percent}"] == len(subsets.rows(0, number))
    assert found["top1_10"] < found["top1_50"]


@pytest.mark.parametrize(
    ("shares", "words"),
    [("[0.2, 0.1]", "must rise"), ("[0.125]", "whole number of percent"), ("[0.1, 1.0]", "less than 1")],
)
def test_shares_rise_and_are_whole_percents(shares: str, words: str) -> None:
    root = Path(__file__).parents[2]
    text = (root / "params.yaml").read_text(encoding="utf-8")
    with pytest.raises(ParamsError, match=words):
        load_text(text.replace("shares: [0.1, 0.2, 0.5]", f"shares: {shares}"), methods=root / "methods")


def test_confusion_equals_sklearn() -> None:
    from sklearn.metrics import confusion_matrix

    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(-1, 4, 200), rng.integers(0, 5, 200)
    known = labels >= 0
    expected = confusion_matrix(labels[known], predictions[known], labels=np.arange(5))
    np.testing.assert_array_equal(confusion(predictions, labels, 5), expected)
