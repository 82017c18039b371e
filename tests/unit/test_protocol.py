import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from discern.errors import DataError
from discern.evaluation.bootstrap import mean_interval
from discern.evaluation.files import outcome_table
from discern.evaluation.protocol import Evaluation, evaluate
from discern.images.packed import PackedSplit
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.making import Making
from discern.models.weights import save_encoder
from discern.params.encoder import RawPixels, ResNet
from discern.params.load import load
from discern.params.pipeline import Params
from discern.run.context import Context
from discern.stages.evaluate import run
from discern.workspace import Workspace

SIZE = 16
CLASSES = ["ant", "bee", "cat"]
ENCODER = ResNet(kind="resnet18", width=8, stem="small_images")


@pytest.fixture(scope="module")
def params() -> Params:
    return load(Path(__file__).parents[2] / "params.yaml")


def split(n: int, seed: int, parts: bool = False) -> PackedSplit:
    """Images whose class is a colour under noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.integers(0, 200, (n, SIZE, SIZE, 3))
    images[np.arange(n), :, :, labels] += 40
    index = pd.DataFrame(
        {
            "path": [f"{seed}/{i}.png" for i in range(n)],
            "label": [CLASSES[label] for label in labels],
            "label_id": labels,
            "sha256": [f"{i:064x}" for i in range(n)],
        }
    )
    masks = rng.random((n, SIZE, SIZE)) < 0.25 if parts else None
    return PackedSplit(images.astype(np.uint8), index, labels, CLASSES, masks, "0" * 32)


def without_labels(data: PackedSplit, rows: Any = slice(None)) -> PackedSplit:
    labels = data.labels.copy()
    labels[rows] = -1
    return replace(data, labels=labels)


def run_protocol(params: Params, train: PackedSplit, val: PackedSplit, test: PackedSplit) -> Evaluation:
    encoder = build_encoder(ENCODER, seed=0)
    return evaluate(encoder, train, val, test, params.evaluate, params.base, torch.device("cpu"))


def test_all_figures_of_a_labelled_data_set_with_parts(params: Params) -> None:
    result = run_protocol(params, split(60, 0), split(15, 1), split(40, 2, parts=True))
    metrics, outcomes = result.findings.metrics, result.findings.outcomes
    assert {name: set(section) for name, section in metrics.items()} == {
        "probe": {"top1", "top1_low", "top1_high", "top5", "balanced", "macro_f1", "strength", "val_top1"},
        "knn": {"top1", "top1_low", "top1_high", "val_top1", "k"},
        "retrieval": {
            *("rank1", "rank1_low", "rank1_high", "rank5"),
            *("map", "map_low", "map_high", "excluded"),
        },
        "label_free": {"alignment", "uniformity", "view_rank1", "effective_rank", "std"},
        "localisation": {"energy", "energy_low", "energy_high", "area", "excluded"},
        "mlp": {"top1", "top1_low", "top1_high", "balanced", "macro_f1"},
        "fractions": {f"{name}_{p}" for p in (10, 20, 50) for name in ("top1", "images")}
        | {f"top1_{p}_{end}" for p in (10, 20, 50) for end in ("min", "max")},
        "floor": {"majority"},
        "images": {"train", "val", "test", "classes"},
    }
    assert metrics["images"] == {"train": 60, "val": 15, "test": 40, "classes": 3}
    assert metrics["floor"]["majority"] == 14 / 40
    assert metrics["probe"]["top1"] > 0.6  # colours are easy, even for a random encoder
    labels = np.arange(40) % 3
    assert result.confusion is not None
    assert np.trace(result.confusion) == round(40 * metrics["probe"]["top1"])
    assert result.subsets is not None
    assert set(result.subsets["path"]) <= {f"0/{i}.png" for i in range(60)}
    for name in ("probe", "knn"):
        right = outcomes[f"{name}_pred"] == labels
        np.testing.assert_array_equal(outcomes[f"{name}_correct"], right)
        expected = mean_interval(right, params.evaluate.bootstrap.samples, params.evaluate.bootstrap.seed)
        assert metrics[name]["top1"] == expected.mean
        assert (metrics[name]["top1_low"], metrics[name]["top1_high"]) == (expected.low, expected.high)
    assert metrics["retrieval"]["map"] == outcomes["ap"].mean()
    neighbours = outcomes["neighbours"]
    assert neighbours.shape == (40, 12)
    np.testing.assert_array_equal(outcomes["rank1_correct"], labels[neighbours[:, 0]] == labels)
    assert metrics["label_free"]["alignment"] > 0  # two different views
    assert result.findings.notes == []


def test_heat_maps_of_24_evenly_spread_images(params: Params) -> None:
    result = run_protocol(params, split(60, 0), split(15, 1), split(47, 2))
    assert result.heat_map_rows.tolist() == list(range(0, 47, 2))
    assert result.heat_maps is not None
    assert result.heat_maps.shape == (24, SIZE, SIZE)
    few = run_protocol(params, split(60, 0), split(15, 1), split(5, 2))
    assert few.heat_map_rows.tolist() == [0, 1, 2, 3, 4]
    assert "localisation" not in few.findings.metrics


def test_without_any_label_only_what_needs_none(params: Params) -> None:
    splits = [without_labels(split(n, seed)) for seed, n in enumerate((60, 15, 40))]
    result = run_protocol(params, *splits)
    assert set(result.findings.metrics) == {"label_free", "images"}
    assert result.heat_maps is None
    assert len(result.findings.notes) == 2
    table = outcome_table(result, splits[2])
    for name in ("probe_pred", "knn_pred", "probe_correct", "knn_correct", "rank1_correct", "ap"):
        assert table[name].null_count == 40
    assert table["neighbours"].null_count == 0


def test_partly_labelled_data_are_scored_where_labels_are(params: Params) -> None:
    train, val, test = split(60, 0), split(15, 1), split(40, 2, parts=True)
    hidden = np.arange(40) % 4 == 0
    result = run_protocol(
        params, without_labels(train, slice(0, 30)), without_labels(val), without_labels(test, hidden)
    )
    outcomes = result.findings.outcomes
    for name in ("probe_correct", "knn_correct", "rank1_correct", "ap"):
        np.testing.assert_array_equal(np.isnan(outcomes[name]), hidden)
    assert set(outcomes["probe_pred"]) <= {0, 1, 2}  # predicted all the same
    assert result.findings.metrics["localisation"]["excluded"] >= hidden.sum()
    assert "val_top1" not in result.findings.metrics["probe"]
    assert any("val has no labelled images" in note for note in result.findings.notes)


def test_only_labelled_images_are_localised(params: Params) -> None:
    test = without_labels(split(40, 2, parts=True), slice(6, None))
    result = run_protocol(params, split(60, 0), split(15, 1), test)
    assert 34 <= result.findings.metrics["localisation"]["excluded"] < 40


def test_a_class_unknown_to_the_probe_is_drawn_as_what_it_is_taken_for(params: Params) -> None:
    train, test = split(60, 0), split(24, 2)
    train = without_labels(train, train.labels == 2)
    result = run_protocol(params, train, split(15, 1), test)
    unknown = test.labels == 2
    assert result.heat_maps is not None
    assert result.heat_maps[unknown].any()
    assert not result.findings.outcomes["probe_correct"][unknown].any()
    # the map depends on the prediction only, so hiding the label changes nothing
    hidden = run_protocol(params, train, split(15, 1), without_labels(test, unknown))
    assert hidden.heat_maps is not None
    np.testing.assert_array_equal(hidden.heat_maps, result.heat_maps)


def test_one_class_has_nothing_to_tell_apart(params: Params) -> None:
    splits = [split(n, seed) for seed, n in enumerate((60, 15, 40))]
    single = [replace(data, labels=np.zeros_like(data.labels), classes=["ant"]) for data in splits]
    result = run_protocol(params, *single)
    assert set(result.findings.metrics) == {"label_free", "images"}


def changed(params: Params, part: str, **values: Any) -> Params:
    """The same parameters but for some of one part of `evaluate`."""
    section = getattr(params.evaluate, part).model_copy(update=values)
    return params.model_copy(update={"evaluate": params.evaluate.model_copy(update={part: section})})


def test_parts_can_be_switched_off(params: Params) -> None:
    off = changed(changed(params, "mlp", epochs=0), "fractions", shares=[])
    result = run_protocol(off, split(60, 0), split(15, 1), split(40, 2))
    assert not {"mlp", "fractions", "finetune"} & set(result.findings.metrics)
    assert result.subsets is None


@pytest.mark.parametrize(("k", "given"), [(20, True), (21, False)])
def test_many_neighbours_vote_where_the_smallest_class_has_as_many(params: Params, k: int, given: bool) -> None:
    result = run_protocol(changed(params, "knn", large_k=k), split(62, 0), split(15, 1), split(40, 2))
    found = result.findings.metrics["knn"]
    assert ("top1_large" in found) == ("knn_large_correct" in result.findings.outcomes) == given
    assert not result.findings.notes
    if given:  # equal to k: the same vote
        assert (found["top1_large"], found["large_k"]) == (found["top1"], k)


def test_fine_tuning_is_a_section_of_its_own_and_says_what_moved(params: Params) -> None:
    tuned = changed(params, "finetune", layers="last_stage", epochs=2, batch_size=30)
    result = run_protocol(tuned, split(60, 0), split(15, 1), without_labels(split(40, 2), slice(0, 4)))
    assert set(result.findings.metrics["finetune"]) == {"top1", "top1_low", "top1_high", "balanced", "macro_f1"}
    assert np.isnan(result.findings.outcomes["finetune_correct"][:4]).all()
    assert result.findings.notes == ["fine-tuning: the encoder's last stage and a linear head, 2 epochs"]
    frozen = run_protocol(params, split(60, 0), split(15, 1), without_labels(split(40, 2), slice(0, 4)))
    np.testing.assert_array_equal(result.features, frozen.features)
    assert result.findings.metrics["probe"] == frozen.findings.metrics["probe"]


class Mosaic(ImageEncoder):
    """Mean colours of the image's quarters: no feature map, nothing to train."""

    dim = 12
    params = RawPixels(kind="raw_pixels", side=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def test_an_encoder_without_a_feature_map_has_no_heat_maps(params: Params) -> None:
    tuned = changed(params, "finetune", layers="all")
    data = split(60, 0), split(15, 1), split(40, 2, parts=True)
    result = evaluate(Mosaic(), *data, tuned.evaluate, tuned.base, torch.device("cpu"))
    assert result.heat_maps is None
    assert "probe" in result.findings.metrics
    assert not {"localisation", "finetune"} & set(result.findings.metrics)
    assert result.findings.notes == [
        "fine-tuning: the encoder has nothing to train: left out",
        "heat maps and localisation need an encoder with a feature map: left out",
    ]


def test_fewer_training_images_than_k_is_noted(params: Params) -> None:
    result = run_protocol(params, split(9, 0), split(6, 1), split(10, 2))
    assert result.findings.metrics["knn"]["k"] == 9
    assert any("clipped" in note for note in result.findings.notes)


def test_a_single_test_image_is_one_clear_error(params: Params) -> None:
    with pytest.raises(DataError, match="data/packed/test: fewer than two images"):
        run_protocol(params, split(9, 0), split(6, 1), split(1, 2))


class Recorded:
    """Stands in for the Recorder."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.files: list[Path] = []
        self.datasets: list[tuple[str, str]] = []

    def metrics(self, values: dict[str, float], step: int | None = None) -> None:
        self.figures |= values

    def artifact(self, path: Path, folder: str = "") -> None:
        assert path.exists()
        self.files.append(path)

    def dataset(self, name: str, frame: pd.DataFrame, digest: str, context: str) -> None:
        self.datasets.append((name, context))


def prepared(workspace: Workspace) -> None:
    for name, seed, n in (("train", 0, 60), ("val", 1, 15), ("test", 2, 40)):
        folder, data = workspace.packed(name), split(n, seed)
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", data.images)
        data.index.to_parquet(folder / "index.parquet")
    (workspace.packed("train").parent / "classes.json").write_text(json.dumps(CLASSES))
    save_encoder(workspace.encoder("continue", 3), build_encoder(ENCODER, seed=0), Making(SIZE))


def test_the_stage_writes_the_same_bytes_every_time(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCERN_DEVICE", "cpu")
    workspace = Workspace(tmp_path)
    prepared(workspace)
    contents = []
    for _ in range(2):
        record: Any = Recorded()
        run(Context("evaluate", 3, "continue", params, workspace, record))
        folder = workspace.embeddings("continue", 3)
        files = [*sorted(folder.iterdir()), workspace.metrics("continue", 3)]
        contents.append({path.name: path.read_bytes() for path in files})
    assert set(contents[0]) == {
        *("cams.npy", "cams_rows.npy", "outcomes.parquet", "test.npz", "3.json"),
        *("confusion.csv", "subsets.csv"),
    }
    assert contents[0] == contents[1]

    figures = json.loads(contents[0]["3.json"])
    assert record.figures["probe.top1"] == pytest.approx(figures["probe"]["top1"], abs=1e-6)
    assert record.figures["images.test"] == 40
    assert record.files == [workspace.metrics("continue", 3)]
    assert record.datasets == [("test", "evaluation")]

    confusion = pd.read_csv(folder / "confusion.csv", index_col="true")
    assert confusion.index.tolist() == confusion.columns.tolist() == CLASSES
    assert np.trace(confusion) == round(40 * figures["probe"]["top1"])
    subsets = pd.read_csv(folder / "subsets.csv")
    assert subsets["subset"].unique().tolist() == [0, 1, 2]
    assert (subsets["share"] == 0.1).sum() == 3 * figures["fractions"]["images_10"]

    outcomes = pd.read_parquet(folder / "outcomes.parquet")
    assert outcomes["path"].tolist() == [f"2/{i}.png" for i in range(40)]
    assert outcomes["probe_correct"].dtype == bool
    assert outcomes["probe_correct"].mean() == pytest.approx(figures["probe"]["top1"], abs=1e-6)
    assert len(outcomes["neighbours"][0]) == 12
    features = np.load(folder / "test.npz")["features"]
    assert features.shape == (40, 64)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    neighbour = outcomes["neighbours"][0][0]
    assert unit[0] @ unit[neighbour] == pytest.approx(outcomes["neighbour_similarity"][0][0], abs=1e-5)
