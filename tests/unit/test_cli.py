"""The command `discern` as a person meets it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from discern import __version__, cli
from discern.models.build import build_encoder
from discern.models.making import Making
from discern.models.weights import save_encoder
from discern.params.encoder import ResNet
from discern.report.summary import Figure, Summary

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, in which the command runs."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    shutil.copytree(ROOT / "methods", tmp_path / "methods", symlinks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["discern", *argv])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


@pytest.fixture
def encoder(project: Path) -> Path:
    folder = project / "models" / "encoders" / "discern" / "0"
    params = ResNet(kind="resnet18", width=8, stem="small_images")
    save_encoder(folder, build_encoder(params, seed=0), Making(32))
    return folder


def write_photo(path: Path, seed: int) -> np.ndarray:
    """A picture of large random blocks, so that no two are alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).save(path)
    return blocks


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['discern', '--help']\n"
        "from discern.cli import main\n"
        "try: main()\n"
        "except SystemExit as left: assert not left.code\n"
        "heavy = {'torch', 'mlflow', 'prefect', 'dvc', 'great_expectations', 'pandas', 'matplotlib', 'numpy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("results", "schema", "check", "embed", "neighbours"):
        assert f"  {command} " in done.stdout


def test_python_m_discern_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "discern", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"discern {__version__}\n")


def test_schema_is_json_with_every_section(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "schema") == 0
    assert {"dataset", "validate", "train_encoder", "report"} <= set(
        json.loads(capsys.readouterr().out)["properties"]
    )


def test_check_says_good(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "check") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("params.yaml: good; 4 methods (discern, continue,")
    count = len(list((project / "methods").glob("*.yaml")))
    assert count > 30
    assert second == f"methods: good; {count} methods are described there"


def test_check_reads_methods_that_nobody_trains_and_tells_all_mistakes_at_once(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    methods = project / "methods"
    for name, old, new in (
        ("simclr", "dim: 128", "dim: -1"),  # trained: read twice, told once
        ("moco", "\nqueue:", "\nkeys:"),
        ("dino", "kind: dino", "kind: ["),
    ):
        text = (methods / f"{name}.yaml").read_text()
        assert old in text
        (methods / f"{name}.yaml").write_text(text.replace(old, new))
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("pair_weight: 1.0", "pair_weight: -1"))
    (project / "src").symlink_to(ROOT / "src")
    (methods / "byol").unlink()
    assert run(monkeypatch, "check") == 2
    said = capsys.readouterr().err.removeprefix("discern: ").splitlines()
    for line, start in zip(
        sorted(said),
        (
            "methods/byol: the link to the method's code is missing; `ln -sfn ../src/discern/methods/two_view",
            "methods/dino.yaml: not valid YAML",
            "methods/moco.yaml: keys is not a parameter",
            "methods/moco.yaml: queue is missing",
            "methods/simclr.yaml: dim = -1: ",
            "params.yaml: train_encoder.pair_weight = -1: ",
        ),
        strict=True,
    ):
        assert line.startswith(start), line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("pair_weight: 1.0", "pair_weight: -1", "discern: params.yaml: train_encoder.pair_weight = -1: "),
        ("  queries: 8\n", "", "discern: params.yaml: report.queries is missing"),
        ("image_size: 64\n  resize", "image_size: 0\n  resize", "discern: params.yaml: pack.image_size = 0: "),
        ("control: continue", "control: nobody", "discern: params.yaml: report.control: 'nobody'"),
    ],
)
def test_check_names_what_is_wrong_in_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    old: str,
    new: str,
    line: str,
) -> None:
    file = project / "params.yaml"
    before = file.read_text()
    assert old in before
    file.write_text(before.replace(old, new, 1))
    assert run(monkeypatch, "check") == 2
    said = capsys.readouterr().err
    assert said.startswith(line)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["results"], "discern: metrics/summary.json: no results yet; `dvc repro` (or `make demo`) makes them"),
        (["check", "nowhere.yaml"], "discern: nowhere.yaml: no such file; run from the project's root"),
        (["embed", "nowhere", "--out", "x.npz"], "discern: nowhere: no such folder"),
        (
            ["embed", ".", "--out", "x.npz"],
            "discern: .: no pictures (.bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp)",
        ),
        (["embed", ".", "--out", "x.txt"], "discern: --out x.txt: the name must end in .npz or .parquet"),
    ],
)
def test_errors_are_one_line(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    line: str,
) -> None:
    assert run(monkeypatch, *argv) == 2
    assert capsys.readouterr().err == f"{line}\n"


@pytest.mark.parametrize("difference", [0.04, -0.04, 0.004])
def test_results_say_plainly_whether_ours_beats_the_control(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], difference: float
) -> None:
    bounds = (difference - 0.01, difference + 0.01)
    verdict = "better" if bounds[0] > 0 else "worse" if bounds[1] < 0 else "undecided"
    ours = Figure(
        mean=0.7, seeds=[0.7], interval=(0.67, 0.73),
        difference=difference, difference_interval=bounds, verdict=verdict,
    )  # fmt: skip
    control = Figure(mean=0.7 - difference, seeds=[0.7 - difference], interval=(0.6, 0.7))
    methods = {"discern": {"probe.top1": ours}, "continue": {"probe.top1": control}}
    (project / "metrics").mkdir()
    Summary(control="continue", seeds=[0], images={}, floor={}, notes=[], methods=methods).write(
        project / "metrics" / "summary.json"
    )
    (project / "reports").mkdir()
    (project / "reports" / "report.html").touch()
    assert run(monkeypatch, "results") == 0
    said = capsys.readouterr().out
    assert ("does not beat its control" in said) == (verdict != "better")
    assert ("beats its control by 4.0 points" in said) == (verdict == "better")
    assert f"report: {project / 'reports' / 'report.html'}" in said


def test_embed_writes_features_and_names_what_it_skipped(
    project: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("a.png", "below/b.jpg", "c.PNG")):
        write_photo(project / "photos" / name, seed)
    (project / "photos" / "broken.png").write_bytes(b"\x89PNG nothing")
    for name in ("out/x.npz", "out/x.parquet"):
        assert run(monkeypatch, "embed", "photos", "--out", name) == 0
        printed = capsys.readouterr()
        assert f"{name}: 3 photographs, 64 features each" in printed.out
        assert "photos/broken.png skipped: " in printed.err
    with np.load(project / "out" / "x.npz") as arrays:
        assert arrays["paths"].tolist() == ["a.png", "below/b.jpg", "c.PNG"]
        features = arrays["features"]
    table = pd.read_parquet(project / "out" / "x.parquet")
    assert features.shape == (3, 64)
    assert np.stack(table["features"].tolist()) == pytest.approx(features)
    assert np.abs(features[0] - features[2]).max() > 1e-3, "two photographs differ"


def test_neighbours_find_the_photograph_itself(
    project: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = np.stack([write_photo(project / "photos" / f"{i}.png", i) for i in range(5)])
    folder = project / "data" / "packed" / "train"
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", photos)
    labels = pd.Series([0, 1, 0, -1, 1])
    index = {
        "path": [f"{i}.png" for i in range(5)],
        "label": labels.map({0: "finch", 1: "wren"}),
        "label_id": labels,
    }
    pd.DataFrame({**index, "sha256": "0"}).to_parquet(folder / "index.parquet")
    (folder.parent / "classes.json").write_text('["finch", "wren"]')
    assert run(monkeypatch, "neighbours", "photos/3.png", "--count", "2") == 0
    heads, first, *rest = capsys.readouterr().out.splitlines()
    assert heads.split() == ["similarity", "label", "training", "image"]
    assert first.split() == ["1.000", "–", "3.png"]
    assert len(rest) == 1
    assert run(monkeypatch, "neighbours", "nowhere.png") == 2
    assert capsys.readouterr().err == "discern: nowhere.png: No such file or directory\n"
