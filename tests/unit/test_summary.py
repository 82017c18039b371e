"""The table of methods against numbers summed in plain loops."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from discern.errors import DataError
from discern.evaluation.bootstrap import mean_interval, paired_difference
from discern.params.load import load
from discern.params.pipeline import Params
from discern.report import terminal
from discern.report.aggregate import summarise
from discern.report.described import methods
from discern.report.results import tables, tiles
from discern.report.summary import LABELLED, SAW_LABELS, Summary, read_summary
from discern.report.table import explanation, headline, markdown, number
from discern.workspace import Workspace
from tests.described import describe

ROOT = Path(__file__).parents[2]
IMAGES = 200
Outcomes = dict[str, list[list[int]]]  # method → seed → image → right or wrong


def params(seeds: int) -> Params:
    loaded = load(ROOT / "params.yaml")
    methods = loaded.methods.model_copy(update={"seeds": list(range(seeds))})
    return loaded.model_copy(update={"methods": methods})


def write_method(workspace: Workspace, method: str, seed: int, right: list[int]) -> None:
    """One evaluation whose probe is right where `right` says so; the last image has no average precision."""
    folder = workspace.embeddings(method, seed)
    folder.mkdir(parents=True)
    ap = [0.5 * r + 0.1 for r in right[:-1]] + [None]
    frame = pd.DataFrame(
        {"probe_correct": pd.array([bool(r) for r in right], dtype="boolean"), "ap": pd.array(ap, dtype="Float64")}
    )
    frame.to_parquet(folder / "outcomes.parquet")
    known = [a for a in ap if a is not None]
    metrics = {
        "probe": {"top1": sum(right) / len(right), "balanced": 0.5},
        "retrieval": {"map": sum(known) / len(known)},
        "localisation": {"energy": 0.3, "energy_low": 0.25, "energy_high": 0.35, "area": 0.04},
        "label_free": {"std": 0.9},
        "floor": {"majority": 0.05},
        "images": {"train": 10, "val": 2, "test": len(right), "classes": 2},
        "notes": ["kNN: k lowered"],
    }
    path = workspace.metrics(method, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics))


def make(tmp_path: Path, shares: dict[str, float], seeds: int = 2) -> tuple[Workspace, Params, Outcomes]:
    """Methods that are right on given shares of the images, for every seed with other images."""
    workspace, chosen = Workspace(tmp_path), params(seeds)
    outcomes: Outcomes = {}
    describe(workspace, chosen)
    for number_of_method, method in enumerate(chosen.methods.all):
        rng = np.random.default_rng(number_of_method)
        right = [(rng.random(IMAGES) < shares.get(method, 0.5)).astype(int).tolist() for _ in range(seeds)]
        for seed in range(seeds):
            write_method(workspace, method, seed, right[seed])
        outcomes[method] = right
    return workspace, chosen, outcomes


def averaged(right: list[list[int]]) -> list[float]:
    return [sum(seed[i] for seed in right) / len(right) for i in range(len(right[0]))]


def test_figures_equal_loops(tmp_path: Path) -> None:
    workspace, chosen, outcomes = make(tmp_path, {"discern": 0.8, "continue": 0.5})
    found = summarise(chosen, workspace)
    assert list(found.methods) == ["discern", "continue", "simclr", "random_init"]
    bootstrap = chosen.evaluate.bootstrap
    control = averaged(outcomes["continue"])
    for method, right in outcomes.items():
        figure = found.methods[method]["probe.top1"]
        per_seed = [sum(seed) / IMAGES for seed in right]
        assert figure.seeds == pytest.approx(per_seed, abs=1e-6)
        assert figure.mean == pytest.approx(sum(per_seed) / 2, abs=1e-6)
        assert figure.spread == pytest.approx((min(per_seed), max(per_seed)), abs=1e-6)
        expected = mean_interval(averaged(right), bootstrap.samples, bootstrap.seed)
        assert figure.interval == pytest.approx((expected.low, expected.high), abs=1e-6)
        assert figure.interval is not None
        assert figure.interval[0] < figure.mean < figure.interval[1]
        if method == "continue":
            assert figure.difference is None
            continue
        difference = paired_difference(averaged(right), control, bootstrap.samples, bootstrap.seed)
        loop = sum(a - b for a, b in zip(averaged(right), control, strict=True)) / IMAGES
        assert figure.difference == pytest.approx(loop, abs=1e-6)
        assert figure.difference_interval == pytest.approx((difference.low, difference.high), abs=1e-6)


def test_images_without_an_outcome_are_left_out(tmp_path: Path) -> None:
    workspace, chosen, outcomes = make(tmp_path, {}, seeds=1)
    figure = summarise(chosen, workspace).methods["discern"]["retrieval.map"]
    known = [0.5 * r + 0.1 for r in outcomes["discern"][0][:-1]]
    assert figure.mean == pytest.approx(sum(known) / len(known), abs=1e-6)
    assert figure.interval is not None
    assert figure.interval[0] < figure.mean < figure.interval[1]


def test_without_outcomes_the_interval_of_a_single_seed_stands(tmp_path: Path) -> None:
    one = summarise(params(1), make(tmp_path / "one", {}, seeds=1)[0])
    two = summarise(params(2), make(tmp_path / "two", {}, seeds=2)[0])
    assert one.methods["discern"]["localisation.energy"].interval == (0.25, 0.35)
    assert two.methods["discern"]["localisation.energy"].interval is None
    assert one.floor == {"majority": 0.05, "part_area": 0.04}
    assert one.notes == ["kNN: k lowered"]


@pytest.mark.parametrize(
    ("ours", "control", "verdict", "words"),
    [
        (0.9, 0.5, "better", "beats its control by"),
        (0.3, 0.7, "worse", "does not beat its control: it is"),
        (0.6, 0.6, "undecided", "could be chance"),
    ],
)
def test_verdict(tmp_path: Path, ours: float, control: float, verdict: str, words: str) -> None:
    workspace, chosen, _ = make(tmp_path, {"discern": ours, "continue": control})
    found = summarise(chosen, workspace)
    figure = found.methods["discern"]["probe.top1"]
    assert figure.verdict == verdict
    assert figure.difference_interval is not None
    low, high = figure.difference_interval
    assert {"better": low > 0, "worse": high < 0, "undecided": low <= 0 <= high}[verdict]
    assert words in headline(found)
    assert f" {verdict} |" in markdown(found)


def test_seeds_ahead_are_counted(tmp_path: Path) -> None:
    workspace, chosen = Workspace(tmp_path), params(3)
    describe(workspace, chosen)
    for method in chosen.methods.all:
        for seed in range(3):
            right = 120 if method != "discern" else [140, 110, 130][seed]
            write_method(workspace, method, seed, [1] * right + [0] * (IMAGES - right))
    assert explanation(summarise(chosen, workspace))[-1].endswith("ahead of continue in 2 of 3 seeds.")


def test_round_trip_is_exact_and_deterministic(tmp_path: Path) -> None:
    workspace, chosen, _ = make(tmp_path, {"discern": 0.8})
    found = summarise(chosen, workspace)
    found.write(tmp_path / "a.json")
    summarise(chosen, workspace).write(tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_summary(tmp_path / "a.json") == found


def test_missing_evaluation_is_named(tmp_path: Path) -> None:
    workspace, chosen, _ = make(tmp_path, {})
    workspace.metrics("simclr", 1).unlink()
    with pytest.raises(DataError, match=r"simclr/1\.json: simclr is not evaluated for seed 1"):
        summarise(chosen, workspace)


def test_missing_and_foreign_summaries_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results yet"):
        read_summary(tmp_path / "summary.json")
    (tmp_path / "summary.json").write_text('{"methods": 3}')
    with pytest.raises(DataError, match="not a summary of this version"):
        read_summary(tmp_path / "summary.json")


def add_figures(workspace: Workspace, method: str, seed: int, sections: dict[str, dict[str, float]]) -> None:
    path = workspace.metrics(method, seed)
    path.write_text(json.dumps(json.loads(path.read_text()) | sections))


def with_protocols(tmp_path: Path) -> tuple[Workspace, Params]:
    """Every method with label fractions; discern alone with an MLP probe, which has outcomes."""
    workspace, chosen, outcomes = make(tmp_path, {"discern": 0.8})
    for method in chosen.methods.all:
        for seed in (0, 1):
            shares = {"top1_5": 0.2 + seed / 10, "top1_5_min": 0.1 + seed / 10, "top1_5_max": 0.3 + seed / 10}
            shares |= {"top1_50": 0.4, "top1_50_min": 0.4, "top1_50_max": 0.4, "images_50": 5}
            add_figures(workspace, method, seed, {"fractions": shares})
    for seed, right in enumerate(outcomes["discern"]):
        path = workspace.embeddings("discern", seed) / "outcomes.parquet"
        frame = pd.read_parquet(path)
        frame["mlp_correct"] = pd.array([bool(r) for r in right], dtype="boolean")
        frame.to_parquet(path)
        add_figures(workspace, "discern", seed, {"mlp": {"top1": sum(right) / IMAGES}})
    return workspace, chosen


def test_label_fractions_are_a_table_of_their_own_without_intervals(tmp_path: Path) -> None:
    found = summarise(params(2), with_protocols(tmp_path)[0])
    figure = found.methods["continue"]["fractions.top1_5"]
    assert figure.mean == pytest.approx(0.25)
    assert figure.subsets == pytest.approx((0.1, 0.4)), "over draws and seeds"
    assert figure.interval is None
    assert figure.difference is None
    assert [m.title for m in found.shares] == ["5 %", "50 %", "100 %"]
    text = markdown(found)
    assert "| method | 5 % | 50 % | 100 % |" in text
    assert "means over draws and 2 seeds" in text
    assert "| continue (control) | 25.0 (10.0–40.0) | 40.0 (40.0–40.0) |" in text


def test_a_protocol_that_one_method_has_is_a_column_with_dashes_for_the_others(tmp_path: Path) -> None:
    workspace, chosen = with_protocols(tmp_path)
    found = summarise(chosen, workspace)
    figure = found.methods["discern"]["mlp.top1"]
    assert figure.interval == found.methods["discern"]["probe.top1"].interval
    assert figure.difference is None, "the control has none"
    assert "mlp.top1" not in found.methods["continue"]
    assert "| method | Balanced accuracy % | MLP probe % |" in markdown(found)
    grids = tables(found, methods(chosen, workspace))
    other = grids["other_protocols"]
    assert other is not None
    assert other.columns == ["MLP probe %"]
    assert [row[0].text for _, row in other.rows][1:] == ["–"] * 3
    shares = grids["shares"]
    assert shares is not None
    assert shares.columns == ["5 %", "50 %", "100 %"]
    assert shares.rows[0][1][0].note == "draws 10.0–40.0"


def test_without_them_nothing_of_it_is_shown(tmp_path: Path) -> None:
    workspace, chosen, _ = make(tmp_path, {})
    found = summarise(chosen, workspace)
    assert found.shares == ()
    assert terminal.shares(found) is None
    assert "share of the labels" not in markdown(found)
    assert "MLP" not in markdown(found)
    grids = tables(found, methods(chosen, workspace))
    assert grids["other_protocols"] is None
    assert grids["shares"] is None


def test_methods_beyond_the_colours_are_grey(tmp_path: Path) -> None:
    chosen, workspace = params(1), Workspace(tmp_path)
    names = [f"method{i}" for i in range(20)]
    many = chosen.model_copy(update={"methods": chosen.methods.model_copy(update={"compared": names})})
    describe(workspace, many, **dict.fromkeys(names, chosen.described["simclr"].model_dump()))
    found = methods(many, workspace)
    assert [method.drawn for method in found] == [True] * 8 + [False] * 14
    assert (found[7].colour, found[8].colour) == ("var(--method-7)", "var(--muted)")


def test_whose_weights_saw_labels_is_a_column_where_any_were_given(tmp_path: Path) -> None:
    loaded, workspace = params(1), Workspace(tmp_path)
    names = ["simclr", "supervised", "moco", "random_init"]
    chosen = loaded.model_copy(update={"methods": loaded.methods.model_copy(update={"compared": names})})
    describe(workspace, chosen, supervised={"kind": "supervised"}, moco={"kind": "moco"})
    for method in chosen.methods.all:
        write_method(workspace, method, 0, [1, 0] * 50)
    without = summarise(chosen, workspace)
    assert without.labels == []
    assert SAW_LABELS not in markdown(without)
    grid = tables(without, methods(chosen, workspace))["labelled"]
    assert grid is not None
    assert SAW_LABELS not in grid.columns

    for method, labels in (("moco", "captions"), ("simclr", "unknown")):
        path = workspace.encoder(method, 0) / "encoder.json"
        weights = {"name": "a", "source": "file", "labels": labels}
        path.write_text(json.dumps({**json.loads(path.read_text()), "weights": weights}))
    found = summarise(chosen, workspace)
    expected = {"discern": "no", "continue": "no", "simclr": "unknown", "supervised": "yes", "moco": "captions",
                "random_init": "no"}  # fmt: skip
    assert dict(found.labels) == expected
    found.write(tmp_path / "summary.json")
    assert read_summary(tmp_path / "summary.json") == found
    rows = [[cell.strip(" *") for cell in line.split("|")] for line in markdown(found).splitlines()]
    assert ["method", SAW_LABELS, "Linear probe %"] in [row[1:4] for row in rows]
    for method, labels in expected.items():
        shown = f"{method} (control)" if method == found.control else method
        assert any(row[1:4] == [shown, labels, "50.0 (40.0–60.0)"] for row in rows if len(row) > 4)
    grid = tables(found, methods(chosen, workspace))["labelled"]
    assert grid is not None
    assert grid.columns[0] == SAW_LABELS
    assert {method.name: cells[0].text for method, cells in grid.rows} == expected
    assert all(len(cells) == len(grid.columns) == len(grid.reference) for _, cells in grid.rows)


def test_numbers_for_people() -> None:
    probe = LABELLED[0]
    assert number(probe, 0.7104) == "71.0"
    assert number(probe, -0.0123, signed=True) == "−1.2"
    assert number(probe, 0.0123, signed=True) == "+1.2"
    assert number(probe, -0.0001, signed=True) == "0.0"


def test_terminal_tables_fit_80_columns(tmp_path: Path) -> None:
    from rich.console import Console

    workspace, chosen = with_protocols(tmp_path)
    found: Summary = summarise(chosen, workspace)
    console = Console(width=80, record=True, file=(tmp_path / "out").open("w"))
    console.print(terminal.methods(found))
    console.print(terminal.shares(found))
    text = console.export_text()
    assert "MLP" not in text, "the main five columns stay as they are"
    assert "10.0–40.0" in text
    assert "…" not in text.replace("…−", "").replace("…+", ""), "nothing is cut off"
    figure = found.methods["discern"]["probe.top1"]
    assert figure.difference is not None
    assert f"▲ {number(LABELLED[0], figure.difference, signed=True)}" in text


def test_the_floor_is_the_untrained_network_not_the_first_of_the_floors(tmp_path: Path) -> None:
    loaded, workspace = params(1), Workspace(tmp_path)
    chosen = loaded.methods.model_copy(update={"compared": ["raw_pixels", "random_init"]})
    changed = loaded.model_copy(update={"methods": chosen})
    describe(workspace, changed, raw_pixels={"kind": "raw_pixels", "side": 32})
    for method, count in {"discern": 120, "continue": 110, "raw_pixels": 90, "random_init": 50}.items():
        write_method(workspace, method, 0, [int(i < count) for i in range(IMAGES)])
    found = tiles(summarise(changed, workspace), methods(changed, workspace))
    assert [tile.value for tile in found if tile.name == "Floor: an untrained encoder"] == ["25.0 %"]
