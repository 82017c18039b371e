"""Is training worth it: intervals over images and seeds, choices without test, words, and the encoder to use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from discern.evaluation.bootstrap import paired_difference, paired_over_seeds
from discern.params.load import load
from discern.params.pipeline import Params
from discern.params.preset import prepared
from discern.report.summary import Summary, Worth, recommended
from discern.report.worth import sentences, worth

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params(tmp_path: Path) -> Params:
    """The preset of one's own photographs."""
    for name in ("params.yaml", "methods", "presets"):
        (tmp_path / name).symlink_to(ROOT / name)
    tree = tmp_path / "project"
    tree.mkdir()
    for name in ("methods", "presets"):
        (tree / name).mkdir()
        for file in (ROOT / name).glob("*.yaml"):
            (tree / name / file.name).write_bytes(file.read_bytes())
    (tree / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    prepared(tree, "own-photos").write()
    return load(tree / "params.yaml")


def outcomes(rates: dict[str, float], seeds: int = 3, images: int = 400) -> dict[str, dict[str, np.ndarray]]:
    """Every method right on a share of the images, the better ones on more of the same images."""
    hard = np.random.default_rng(0).random(images)
    columns = ("probe_correct", "knn_correct", "rank1_correct")
    return {
        name: {column: np.tile((hard < rate).astype(float), (seeds, 1)) for column in columns}
        for name, rate in rates.items()
    }


def on_val(rates: dict[str, float]) -> dict[str, list[dict[str, Any]]]:
    return {name: [{"knn": {"val_top1": rate}}] for name, rate in rates.items()}


METHODS = {"discern": 0.7, "continue": 0.7, "frozen": 0.6, "frozen_corrected": 0.62, "simclr": 0.7}


def test_intervals_cover_images_and_seeds() -> None:
    rng = np.random.default_rng(1)
    control = (rng.random((1, 300)) < 0.5).astype(float).repeat(6, axis=0)
    lucky = control.copy()
    lucky[:3] = np.minimum(1, lucky[:3] + (rng.random((3, 300)) < 0.4))  # half the seeds gain, half do not
    together = paired_over_seeds(lucky, control, 1000, 0)
    images_only = paired_difference(lucky, control, 1000, 0)
    assert together.mean == pytest.approx(images_only.mean)
    assert together.high - together.low > 2 * (images_only.high - images_only.low)
    one = paired_over_seeds(lucky[:1], control[:1], 1000, 0)
    assert one.high - one.low == pytest.approx(
        (alone := paired_difference(lucky[0], control[0], 1000, 0)).high - alone.low, rel=0.2
    )
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_over_seeds(lucky, control[:, :9], 100, 0)


def test_excluded_images_are_left_out_of_both() -> None:
    ours, theirs = np.array([[1.0, np.nan, 1.0]]), np.array([[0.0, 1.0, np.nan]])
    assert paired_over_seeds(ours, theirs, 100, 0).mean == 1.0


def test_the_best_on_val_is_compared_with_the_frozen_weights(params: Params) -> None:
    rates = METHODS | {"simclr": 0.75, "discern": 0.9}
    found = worth(params, on_val(METHODS | {"simclr": 0.8}), outcomes(rates))
    assert found is not None
    assert (found.trained, found.frozen, found.recommended) == (
        "simclr",
        "frozen",
        "simclr",
    )  # not discern: by val
    assert found.answer == "yes"
    difference = found.differences["retrieval.rank1"]
    assert difference.mean == pytest.approx(0.15, abs=0.04)
    assert difference.interval[0] > 0.1
    head, *rest = sentences(found, minutes=3.2)
    assert head == "Training on your photographs was worth it: use simclr"
    assert any("3 min of training" in line for line in rest)


def test_where_training_harms_the_best_frozen_encoder_is_recommended(params: Params) -> None:
    found = worth(params, on_val(METHODS), outcomes(METHODS | {"simclr": 0.4}))
    assert found is not None
    assert (found.trained, found.answer, found.recommended) == ("simclr", "no", "frozen_corrected")


def test_equal_is_undecided(params: Params) -> None:
    found = worth(params, on_val(METHODS), outcomes(dict.fromkeys(METHODS, 0.6)))
    assert found is not None
    assert found.answer == "undecided"
    assert found.recommended == "frozen_corrected"


def test_without_labels_it_says_that_it_was_not_measured(params: Params) -> None:
    found = worth(params, {name: [{}] for name in METHODS}, {name: {} for name in METHODS})
    assert found is not None
    assert (found.answer, found.recommended) == ("not measured", "simclr")
    assert "Label a hundred" in sentences(found, None)[-1]


def test_from_scratch_there_is_nothing_to_compare() -> None:
    shipped = load(ROOT / "params.yaml")
    assert worth(shipped, {}, {}) is None


def test_the_recommended_encoder_is_used_where_nobody_says_which(tmp_path: Path) -> None:
    assert recommended(tmp_path) == ("discern", 0, False)
    found = Worth(answer="yes", frozen="frozen", trained="simclr", recommended="simclr", seeds=2, differences={})
    nothing: dict[str, Any] = {"images": {}, "floor": {}, "notes": [], "methods": {}}
    (tmp_path / "metrics").mkdir()
    Summary(control="continue", seeds=[3, 4], worth=found, **nothing).write(tmp_path / "metrics" / "summary.json")
    assert recommended(tmp_path) == ("simclr", 3, True)
