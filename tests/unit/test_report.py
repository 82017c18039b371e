"""The report stage on a small made-up workspace: what the page holds, and what it does without."""

import html
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from discern.params.load import load
from discern.report import gallery
from discern.report.aggregate import summarise
from discern.report.curves import scores, training
from discern.report.page import render
from discern.report.reproduction import duration, reproduction
from discern.report.summary import SAW_LABELS
from discern.run.context import Context
from discern.stages.report import run
from discern.tracking.record import Recorder
from discern.tracking.run_record import RunRecord
from discern.workspace import Workspace
from tests.described import describe

ROOT = Path(__file__).parents[2]
SIDE, IMAGES, CLASSES = 16, 40, ["<finch>", "wren"]
SECTIONS = [
    "results", "training", "reconstructions", "pairs", "heat-maps",
    "scores", "neighbours", "data", "reproduce", "protocol",
]  # fmt: skip


class FakeRecord:
    """Keeps what the stage tells."""

    def __init__(self) -> None:
        self.final: dict[str, float] = {}
        self.artifacts: list[str] = []

    def metrics(self, values: dict[str, float]) -> None:
        self.final |= values

    def pipeline_metrics(self, values: dict[str, float]) -> None:
        assert values == self.final

    def artifact(self, path: Path) -> None:
        assert path.is_file()

    def pipeline_artifact(self, path: Path) -> None:
        assert path.is_file()
        self.artifacts.append(path.name)


class Page(HTMLParser):
    """Everything that a browser would load, and the ids that a link can reach."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = {name: value or "" for name, value in attrs}
        self.ids.add(found.get("id", ""))
        if tag == "a":
            self.links.append(found["href"])
            return
        loading = ("src", "href", "xlink:href", "srcset", "data", "poster", "action")
        self.loaded += [found[name] for name in loading if name in found]


def write_images(workspace: Workspace, labelled: bool) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        folder = workspace.packed(split)
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", rng.integers(0, 256, (IMAGES, SIDE, SIDE, 3), np.uint8))
        parts = np.zeros((IMAGES, SIDE, SIDE), bool)
        parts[:, 4:8, 4:8] = True
        np.save(folder / "parts.npy", parts)
        labels = [CLASSES[i % 2] if labelled else None for i in range(IMAGES)]
        pd.DataFrame({"path": [f"{i}.png" for i in range(IMAGES)], "label": labels}).to_parquet(
            folder / "index.parquet"
        )
    classes = workspace.packed("train").parent / "classes.json"
    classes.write_text(json.dumps(CLASSES if labelled else []))
    for folder, shape in (
        (workspace.base(0), (2, 5, 8, 8, 3)),
        (workspace.pairs(0), (3, 5, SIDE, SIDE, 3)),
    ):
        folder.mkdir(parents=True)
        name = "reconstructions" if len(shape) and shape[0] == 2 else "examples"
        np.save(folder / f"{name}.npy", rng.integers(0, 256, shape, np.uint8))


def write_evaluation(workspace: Workspace, method: str, labelled: bool) -> None:
    rng = np.random.default_rng(len(method))
    right = rng.random(IMAGES) < 0.6
    folder = workspace.embeddings(method, 0)
    folder.mkdir(parents=True)
    outcome: Any = right if labelled else pd.array([None] * IMAGES, dtype="boolean")
    names = ("probe_correct", "knn_correct", "rank1_correct")
    frame = pd.DataFrame(
        dict.fromkeys(names, outcome) | {"ap": right / 2 if labelled else np.full(IMAGES, np.nan)}
    )
    frame["neighbours"] = [[(i + j) % IMAGES for j in range(1, 13)] for i in range(IMAGES)]
    frame.to_parquet(folder / "outcomes.parquet")
    metrics: dict[str, Any] = {
        "label_free": {
            "view_rank1": 0.8,
            "alignment": 0.3,
            "uniformity": -2.5,
            "effective_rank": 30.0,
            "std": 0.9,
        },
        "images": {"train": IMAGES, "val": 4, "test": IMAGES, "classes": 2 if labelled else 0},
    }
    if labelled:
        metrics |= {
            "probe": {"top1": right.mean(), "balanced": right.mean()},
            "knn": {"top1": right.mean()},
            "retrieval": {"rank1": right.mean(), "map": right.mean() / 2},
            "floor": {"majority": 0.5},
        }
        np.save(folder / "cams.npy", rng.integers(0, 256, (6, SIDE, SIDE), np.uint8))
        np.save(folder / "cams_rows.npy", np.arange(6) * 5)
    path = workspace.metrics(method, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(metrics, default=float))


def write_training(workspace: Workspace, method: str) -> None:
    path = workspace.curve(method, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.arange(0 if method == "random_init" else 20)
    pd.DataFrame(
        {
            "step": steps,
            "passes": steps * 1.0,
            "loss": 5 - steps / 10,
            "chance": 5.5,
            "contrastive": 5 - steps / 10,
        }
        | {"std": 0.9, "knn": np.where(steps % 5 == 0, 0.4, np.nan)}
    ).to_csv(path, index=False)


def write_record(workspace: Workspace, stage: str, seconds: float, started: str, commit: str) -> None:
    RunRecord(
        stage=stage, pipeline="p", run_id=None, parent_run_id=None, experiment="discern", tracking="off",
        tracking_host="sqlite", provenance={"git.commit": commit}, params_sha256=None, host="here",
        device="A processor", threads=2, versions={"torch": "2.15.0"}, started=started, seconds=seconds,
        peak_memory_mb=512.0, metrics={},
    ).save(workspace.run_record(stage))  # fmt: skip


def make_workspace(root: Path, labelled: bool = True) -> Context:
    workspace = Workspace(root)
    params = load(ROOT / "params.yaml")
    root.mkdir(exist_ok=True)
    workspace.params.write_text((ROOT / "params.yaml").read_text())
    shutil.copytree(ROOT / "methods", root / "methods", symlinks=True)
    write_images(workspace, labelled)
    describe(workspace, params)
    for method in params.methods.all:
        write_evaluation(workspace, method, labelled)
    for method in ("base", *params.methods.all):
        write_training(workspace, method)
    rng = np.random.default_rng(1)
    workspace.scores(0).mkdir(parents=True)
    table = {"dimension": np.arange(64), "variance": rng.random(64), "importance": rng.random(64)}
    pd.DataFrame({**table, "mask": table["variance"] < 0.8}).to_parquet(workspace.scores(0) / "scores.parquet")
    write_record(workspace, "train_encoder@0", 100.0, "2025-01-01T00:02:00+00:00", "b" * 40)
    write_record(workspace, "validate", 25.0, "2025-01-01T00:01:00+00:00", "a" * 40)
    write_record(workspace, "report", 9.0, "2024-01-01T00:01:00+00:00", "c" * 40)
    return Context("report", 0, None, params, workspace, cast(Recorder, FakeRecord()))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Context:
    context = make_workspace(tmp_path_factory.mktemp("labelled"))
    run(context)
    return context


@pytest.fixture(scope="module")
def text(made: Context) -> str:
    return made.workspace.report.read_text(encoding="utf-8")


def test_page_loads_nothing(text: str) -> None:
    page = Page(text)
    assert len(page.loaded) > 50, "pictures are in it"
    # SVGs refer to their own definitions by #id.
    assert all(address.startswith(("data:", "#")) for address in page.loaded)
    assert not re.search(r"url\((?!['\"]?#)", text)
    assert "@import" not in text
    assert not page.tags & {"script", "link rel=stylesheet", "iframe", "object"}


def test_page_holds_every_section_and_is_small(text: str) -> None:
    page = Page(text)
    assert page.ids.issuperset(SECTIONS)
    assert [link.removeprefix("#") for link in page.links] == SECTIONS
    assert len(text.encode()) < 4_000_000
    assert 'class="missing">No ' not in text, "everything was there"


def test_the_page_says_whose_weights_saw_labels(made: Context, text: str, tmp_path: Path) -> None:
    assert SAW_LABELS not in text, "no method starts from given weights"
    shutil.copytree(made.workspace.root, tmp_path / "given", symlinks=True)
    workspace = Workspace(tmp_path / "given")
    path = workspace.encoder("simclr", 0) / "encoder.json"
    weights = {"name": "a", "source": "file", "labels": "captions"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "weights": weights}))
    page = render(made.params, workspace, summarise(made.params, workspace))
    assert f'<th scope="col">{SAW_LABELS}</th>' in page
    assert '<span class="figure">captions</span>' in page


def test_names_of_classes_are_escaped(text: str) -> None:
    assert "&lt;finch&gt;" in text
    assert "<finch>" not in text


def test_page_agrees_with_the_summary(made: Context, text: str) -> None:
    summary = json.loads(made.workspace.summary.read_text())
    probe = summary["methods"]["discern"]["probe.top1"]
    assert f"{100 * probe['mean']:.1f} %" in text
    assert f">{probe['verdict']}" in text.replace("≈ ", ">").replace("▲ ", ">").replace("▼ ", ">")
    record = cast(FakeRecord, made.record)
    assert record.final["discern.probe.top1"] == probe["mean"]
    assert record.artifacts == ["report.html", "table.md"]


def test_everything_but_provenance_is_deterministic(made: Context, text: str, tmp_path: Path) -> None:
    again = make_workspace(tmp_path / "again")
    run(again)
    other = again.workspace.report.read_text(encoding="utf-8")
    parts = [re.sub(r'<section id="reproduce">.*?</section>', "", page, flags=re.S) for page in (text, other)]
    assert parts[0] == parts[1]
    for name in ("pairs.png", "table.md"):
        assert (again.workspace.report.with_name(name)).read_bytes() == made.workspace.report.with_name(
            name
        ).read_bytes()


def test_neighbours_are_judged_by_symbol_and_frame(text: str) -> None:
    section = text.split('id="neighbours"')[1].split("</section>")[0]
    # Classes alternate, so the neighbours 1, 3, 5 places on are wrong and the others right.
    assert section.count("<b>✗</b>") == section.count('class="photo wrong"') == 8 * 3
    assert section.count("<b>✓</b>") == section.count('class="photo right"') == 8 * 3


def test_without_labels(tmp_path: Path) -> None:
    context = make_workspace(tmp_path / "unlabelled", labelled=False)
    run(context)
    text = context.workspace.report.read_text(encoding="utf-8")
    assert Page(text).ids.issuperset(SECTIONS)
    assert "No labels" in text
    assert "no accuracy to show" in text
    assert "✗" not in text.split('id="neighbours"')[1].split("</section>")[0]
    summary = json.loads(context.workspace.summary.read_text())
    assert set(summary["methods"]["discern"]) == {
        f"label_free.{name}" for name in ("view_rank1", "alignment", "uniformity", "effective_rank", "std")
    }


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    context = make_workspace(tmp_path / "bare")
    workspace = context.workspace
    for method in ("base", *context.params.methods.all):
        workspace.curve(method, 0).unlink()
    (workspace.base(0) / "reconstructions.npy").unlink()
    (workspace.scores(0) / "scores.parquet").unlink()
    (workspace.embeddings("discern", 0) / "cams.npy").unlink()
    (workspace.embeddings("continue", 0) / "cams.npy").unlink()
    shutil.rmtree(workspace.run_record("any").parent)
    run(context)
    text = workspace.report.read_text(encoding="utf-8")
    for sentence in ("No training curves", "No reconstructions", "No scores", "No heat maps", "No run records"):
        assert sentence in text


def test_curves_of_continued_methods_start_where_the_base_ends(made: Context) -> None:
    panels = training(made.params, made.workspace, classes=2)
    assert [panel.title for panel in panels] == [
        "Training loss",
        "kNN accuracy on validation images",
        "Spread of the embeddings",
    ]
    # 40 passes of the base and 19 after them are on the axis; without the shift it would end at 19.
    labels = [int(label) for label in re.findall(r">(\d+)</text>", panels[0].svg)]
    assert max(labels) >= 50
    assert "var(--method-0)" in panels[0].svg
    assert "#0000" not in panels[0].svg, "every stand-in became a variable"


def test_score_panels_count_the_masked(made: Context) -> None:
    panels = scores(made.workspace, 0)
    masked = pd.read_parquet(made.workspace.scores(0) / "scores.parquet")["mask"].sum()
    assert f"{masked} of 64 dimensions are perturbed" in panels[0].caption
    assert len(panels) == 3


def test_other_protocols_confusions_and_super_resolution_are_shown_where_there_are_any(
    text: str, tmp_path: Path
) -> None:
    for words in ("Other ways to score", "share of the labels", "mistakes most often", "super-resolution"):
        assert words not in text
    context = make_workspace(tmp_path / "full")
    workspace = context.workspace
    rng = np.random.default_rng(0)
    for method in ("discern", "continue", "simclr"):
        path = workspace.metrics(method, 0)
        more = {"fractions": {"top1_10": 0.4, "top1_10_min": 0.3, "top1_10_max": 0.5}, "head": {"top1": 0.61}}
        path.write_text(json.dumps(json.loads(path.read_text()) | more))
    folder = workspace.embeddings("simclr", 0)
    shape = (3, SIDE, SIDE, 3)
    low, bicubic, restored, original = rng.integers(0, 256, (4, *shape), np.uint8)
    np.savez(folder / "super_resolution.npz", low=low, bicubic=bicubic, restored=restored, original=original)
    path = workspace.metrics("simclr", 0)
    quality = {"psnr": 24.06, "ssim": 0.714, "bicubic_psnr": 22.0, "bicubic_ssim": 0.6}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"super_resolution": quality}))
    matrix = pd.DataFrame([[30, 10], [2, 8]], index=pd.Index(CLASSES, name="true"), columns=CLASSES)
    matrix.to_csv(workspace.embeddings("discern", 0) / "confusion.csv")
    run(context)
    page = workspace.report.read_text(encoding="utf-8")
    links = [link.removeprefix("#") for link in Page(page).links]
    assert links == [*SECTIONS[:4], "super-resolution", *SECTIONS[4:]]
    section = page.split('id="super-resolution"')[1].split("</section>")[0]
    assert section.count("<img") == 3 * 4
    assert "PSNR 24.1 dB, SSIM 0.71; by bicubic interpolation 22.0 dB and 0.60." in section
    results = page.split('id="results"')[1].split("</section>")[0]
    assert "Own head %" in results
    assert "draws 30.0–50.0" in results
    assert "&lt;finch&gt; for wren (10 of 40 images), wren for &lt;finch&gt; (2 of 10 images)." in results


def test_many_methods_are_drawn_as_far_as_colours_can_be_told_apart(tmp_path: Path) -> None:
    context = make_workspace(tmp_path / "many")
    names = [f"method{i}" for i in range(28)]
    methods = context.params.methods.model_copy(update={"compared": names})
    params = context.params.model_copy(update={"methods": methods})
    simclr = params.described["simclr"].model_dump()
    describe(context.workspace, params, **dict.fromkeys(names, simclr))
    for method in names:
        write_evaluation(context.workspace, method, True)
        write_training(context.workspace, method)
    run(replace(context, params=params))
    page = context.workspace.report.read_text(encoding="utf-8")
    assert "Lines are drawn for the first 8 of 30 methods" in page
    section = page.split('id="training"')[1].split("</section>")[0]
    assert section.count('class="dot"') == 1 + 8
    assert "#0000" not in section
    assert "var(--method-8)" not in page


def test_overlay_leaves_cold_places_alone_and_outlines_the_part() -> None:
    photo = np.full((SIDE, SIDE, 3), 100, np.uint8)
    heat = np.zeros((SIDE, SIDE), np.uint8)
    assert (gallery.overlay(photo, heat) == 100).all()
    heat[:4, :4] = 255
    warm = gallery.overlay(photo, heat)
    factor = warm.shape[0] // SIDE
    assert (warm[-factor:, -factor:] == 100).all()
    hottest = np.array([252, 255, 164])  # the last colour of inferno
    expected = 100 * (1 - gallery.OPACITY) + hottest * gallery.OPACITY
    assert warm[0, 0] == pytest.approx(expected, abs=2)
    part = np.zeros((SIDE, SIDE), bool)
    part[8:12, 8:12] = True
    outlined = gallery.overlay(photo, np.zeros_like(heat), part)
    inside = slice(8 * factor, 12 * factor)
    assert (outlined[inside, inside] == 100).all(), "the part itself stays visible"
    assert (outlined[8 * factor - 1, inside] == 255).all()


def test_grid_is_a_png_of_all_pictures(made: Context) -> None:
    with Image.open(made.workspace.report.with_name("pairs.png")) as sheet:
        pairs = np.load(made.workspace.pairs(0) / "examples.npy")
        step = gallery.SHOWN + 4
        assert sheet.size == (5 * step - 4, 3 * step - 4)
        assert sheet.getpixel((step, 2 * step)) == tuple(pairs[2, 1, 0, 0])


def test_queries_are_half_wrong_where_there_are_any() -> None:
    outcomes = pd.DataFrame({"rank1_correct": [True] * 30 + [False] * 10})
    chosen = gallery.choose_queries(outcomes, 8)
    assert sorted(outcomes["rank1_correct"].iloc[chosen].tolist()) == [False] * 4 + [True] * 4
    few = pd.DataFrame({"rank1_correct": [True] * 39 + [False]})
    assert sorted(few["rank1_correct"].iloc[gallery.choose_queries(few, 8)].tolist()) == [False] + [True] * 7


def test_stages_stand_in_the_order_they_ran_with_their_commits(made: Context) -> None:
    found = reproduction(made.workspace)
    assert [(s.stage, s.seconds, s.share) for s in found.stages] == [
        ("validate", 25.0, 25.0),
        ("train_encoder@0", 100.0, 100.0),
    ]
    assert found.seconds == 125.0
    assert found.mixed_commits
    assert found.machines == ["A processor, 2 threads"]
    assert found.params == made.workspace.params.read_text()


def test_parameters_are_shown_with_those_of_the_methods_that_they_name(made: Context, text: str) -> None:
    section = text.split('id="reproduce"')[1].split("</section>")[0]
    files = re.findall(r"<summary>([\w./]+)</summary><pre>(.*?)</pre>", section, flags=re.S)
    texts = {name: (made.workspace.root / name).read_text() for name, _ in files}
    assert list(texts) == ["params.yaml", "methods/simclr.yaml", "methods/random_init.yaml"]
    assert all(html.unescape(shown).strip() == texts[name].strip() for name, shown in files)


def test_durations() -> None:
    assert [duration(s) for s in (7.12, 245, 7385)] == ["7.1 s", "4 min 5 s", "2 h 3 min"]
