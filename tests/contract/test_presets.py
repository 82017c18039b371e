"""Every preset loads, says what it costs and what to expect, and its lines write the split.csv it speaks of."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import savemat

from discern.data import sources
from discern.dvcfiles.read import mapping
from discern.errors import ParamsError
from discern.nested import flat
from discern.params.dataset import Folder
from discern.params.load import load
from discern.params.preset import prepared
from discern.workspace import Workspace

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


def header(path: Path) -> str:
    """The comments that the file opens with."""
    return re.match(r"(#.*\n)*", path.read_text(encoding="utf-8")).group()  # type: ignore[union-attr]  # matches all


def number(text: str) -> float:
    return float(text.replace(",", ""))


def test_the_presets_are_there() -> None:
    names = ["cassava", "cub200", "fgvc-aircraft", "own-photos", "oxford-flowers", "oxford-pets", "stanford-cars"]
    assert [path.stem for path in PRESETS] == names


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the parameters as they are shipped."""
    for name in ("methods", "presets"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    shutil.copy(PARAMS, tmp_path)
    return tmp_path


def applied(root: Path, *names: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters, and descriptions of the methods that they name, after presets were written one after another."""
    for name in names:
        prepared(root, name).write()
    found = load(root / "params.yaml")
    described = {name: method.model_dump() for name, method in found.described.items()}
    return found.model_dump(by_alias=True), described


@pytest.mark.parametrize("second", PRESETS, ids=lambda path: path.stem)
def test_it_gives_the_same_whatever_was_in_force_before(second: Path, project: Path) -> None:
    fresh = project / "fresh"
    for name in ("methods", "presets"):
        shutil.copytree(project / name, fresh / name, symlinks=True)
    shutil.copy(PARAMS, fresh)
    expected = applied(fresh, second.stem)
    assert expected[0]["dataset"]["kind"] == "folder"
    for first in PRESETS:
        assert applied(project, first.stem, second.stem) == expected, f"{first.stem}, then {second.stem}"


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_it_says_only_what_some_preset_changes(path: Path) -> None:
    shipped = flat(mapping(PARAMS.read_text(encoding="utf-8")))
    overlays = [flat(mapping(one.read_text(encoding="utf-8"))) for one in PRESETS]
    ours = flat(mapping(path.read_text(encoding="utf-8")))
    same = {key for key in ours if "yaml" not in key and all(one.get(key) == shipped.get(key) for one in overlays)}
    # Of a mapping with a kind the whole is written, so that it can be read.
    assert {key for key in same if not key.startswith(("base.optimizer.", "base.encoder."))} == set()


def test_own_photos_stay_label_free_when_supervised_is_added(project: Path) -> None:
    """Its header says that one may; cub200 starts supervised from ImageNet's labels."""
    for name in ("cub200", "own-photos"):
        prepared(project, name).write()
    supervised = mapping((project / "methods" / "supervised.yaml").read_text(encoding="utf-8"))
    assert supervised["weights"] == "base"


def test_comments_and_layout_of_params_yaml_stay(project: Path) -> None:
    prepared(project, "own-photos").write()
    before, after = (file.read_text(encoding="utf-8") for file in (PARAMS, project / "params.yaml"))
    assert [line for line in before.splitlines() if "#" in line][:2] == after.splitlines()[:2]
    assert len(after.splitlines()) < len(before.splitlines()) + 5


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ("bass: {batch_size: 8}", "there is no bass"),
        ("base: {batchsize: 8}", "params.yaml: base: there is no batchsize"),
        ("methods/moco.yaml: {queues: 8}", "methods/moco.yaml: there is no queues"),
        ("methods/mocho.yaml: {queue: 8}", "mocho.yaml: no such file"),
        ("base: {batch_size: 1}", "base.batch_size = 1: input should be greater"),
        ("methods/simclr.yaml: {dim: 1}", "simclr.yaml: dim = 1: input should be greater"),
        ("methods/moco.yaml: {queue: -1}", "moco.yaml: queue = -1: input should be greater"),  # not compared
        ("methods/moco.yaml: 3", "methods/moco.yaml: a file takes a mapping of what changes, not 3"),
        (
            "methods/../params.yaml: {pack: {resize: pad}}",
            "methods/../params.yaml: parameters stand in params.yaml and",
        ),
        ("dvc.yaml: {stages: {}}", "dvc.yaml: parameters stand in params.yaml and methods/NAME.yaml alone"),
        ("pack: [", "presets/mine.yaml: not valid YAML"),
    ],
)
def test_an_overlay_that_does_not_fit_changes_nothing(overlay: str, message: str, project: Path) -> None:
    (project / "presets" / "mine.yaml").write_text(f"# Mine\npack: {{image_size: 96}}\n{overlay}\n")
    with pytest.raises(ParamsError) as error:
        prepared(project, "mine").write()
    assert message in str(error.value)
    assert (project / "params.yaml").read_bytes() == PARAMS.read_bytes()


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_it_opens_with_command_terms_time_machine_and_score(path: Path) -> None:
    lines = header(path)
    assert f"discern preset {path.stem}" in lines
    assert re.search(r"^# Use: discern preset .*, then: dvc repro$", lines, re.MULTILINE)
    assert lines.partition("\n")[0].endswith(".")  # `discern preset` lists it
    for word in ("Data:", "Terms:", "Time:", "Machine:", "Score to expect:", "python -m benchmarks.gpu"):
        assert word in lines
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 115


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_its_times_follow_from_measured_rates(path: Path) -> None:
    lines = header(path)
    sums = re.findall(r"([\d,]+) x ([\d,]+) / ([\d.]+) = ([\d,]+) s = ([\d.]+) (h|days)", lines)
    assert sums
    for images, passes, rate, seconds, time, unit in sums:
        exact = number(images) * number(passes) / number(rate)
        assert exact == pytest.approx(number(seconds), abs=0.51)
        assert exact / {"h": 3600, "days": 86400}[unit] == pytest.approx(number(time), abs=0.051)
    measured = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    for rate in re.findall(r"([\d.]+) images/s", lines):
        assert re.search(rf"(?<![\d.]){re.escape(rate)}(?![\d.])", measured), f"{rate} images/s was never measured"


def photo(path: Path, side: int = 32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (len(path.name), 0, 0)).save(path)


def cub(root: Path) -> None:
    names = ["001.Albatross/A_1.jpg", "001.Albatross/A_2.jpg", "002.Auk/B_1.jpg"]
    for name in names:
        photo(root / "images" / name)
    (root / "images.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    (root / "train_test_split.txt").write_text("1 1\n2 0\n3 1\n")


def cars(root: Path) -> None:
    def table(cars: list[tuple[int, str]]) -> dict[str, Any]:
        kind = [("bbox_x1", object), ("class", object), ("fname", object)]
        return {"annotations": np.array([[(1, number, name) for number, name in cars]], dtype=kind)}

    for name in ("cars_train/00001.jpg", "cars_train/00002.jpg", "cars_test/00001.jpg", "cars_test/00002.jpg"):
        photo(root / name)
    (root / "devkit").mkdir()
    models = np.array([["Acura, RL 2012", "Ram C/V 2012"]], dtype=object)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": models})
    savemat(root / "devkit" / "cars_train_annos.mat", table([(1, "00001.jpg"), (2, "00002.jpg")]))
    savemat(root / "cars_test_annos_withlabels.mat", table([(2, "00001.jpg"), (1, "00002.jpg")]))


def aircraft(root: Path) -> None:
    for name in ("0034309", "0034958", "0037511"):
        photo(root / "data" / "images" / f"{name}.jpg", 60)
    (root / "data" / "images_variant_trainval.txt").write_text("0034309 707-320\n0034958 F/A-18 Hornet\n")
    (root / "data" / "images_variant_test.txt").write_text("0037511 707-320\n")


def flowers(root: Path) -> None:
    for i in range(1, 5):
        photo(root / "jpg" / f"image_{i:05d}.jpg")
    savemat(root / "imagelabels.mat", {"labels": np.array([[77, 77, 1, 77]], dtype=np.uint8)})
    sets = {"trnid": np.array([[3, 1]]), "valid": np.array([[2]]), "tstid": np.array([[4]])}
    savemat(root / "setid.mat", sets)


def pets(root: Path) -> None:
    for name in ("Abyssinian_1", "great_pyrenees_7", "great_pyrenees_8", "beagle_3"):
        photo(root / "images" / f"{name}.jpg")
    (root / "images" / "Abyssinian_1.mat").write_bytes(b"-")
    (root / "annotations").mkdir()
    (root / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\ngreat_pyrenees_8 2 2 1\n")
    (root / "annotations" / "test.txt").write_text("great_pyrenees_7 2 2 1\n")


def cassava(root: Path) -> None:
    for i in range(40):
        photo(root / "train" / "cbb" / f"train-cbb-{i}.jpg")
        photo(root / "train" / "healthy" / f"train-healthy-{i}.jpg")
    photo(root / "extraimages" / "extra-image-0.jpg")


def own(root: Path) -> None:
    photo(root / "2024" / "a b.JPG")
    photo(root / "2025" / "June" / "c.png")
    (root / "notes.txt").write_text("-")


TREES: dict[str, tuple[Callable[[Path], None], list[tuple[str, str | None, str | None]]]] = {
    "cub200": (cub, [
        ("001.Albatross/A_1.jpg", "001.Albatross", "train"), ("001.Albatross/A_2.jpg", "001.Albatross", "test"),
        ("002.Auk/B_1.jpg", "002.Auk", "train"),
    ]),
    "stanford-cars": (cars, [
        ("cars_test/00001.jpg", "Ram C/V 2012", "test"), ("cars_test/00002.jpg", "Acura, RL 2012", "test"),
        ("cars_train/00001.jpg", "Acura, RL 2012", "train"), ("cars_train/00002.jpg", "Ram C/V 2012", "train"),
    ]),
    "fgvc-aircraft": (aircraft, [
        ("0034309.jpg", "707-320", "train"), ("0034958.jpg", "F/A-18 Hornet", "train"),
        ("0037511.jpg", "707-320", "test"),
    ]),
    "oxford-flowers": (flowers, [
        ("image_00001.jpg", "077", "train"), ("image_00002.jpg", "077", "val"),
        ("image_00003.jpg", "001", "train"), ("image_00004.jpg", "077", "test"),
    ]),
    "oxford-pets": (pets, [
        ("Abyssinian_1.jpg", "Abyssinian", "train"), ("great_pyrenees_7.jpg", "great_pyrenees", "test"),
        ("great_pyrenees_8.jpg", "great_pyrenees", "train"),
    ]),
    "own-photos": (own, [("2024/a b.JPG", None, None), ("2025/June/c.png", None, None)]),
}  # fmt: skip


def listing(name: str, tree: Callable[[Path], None], tmp_path: Path) -> list[tuple[Any, ...]]:
    """Path, label and split of every image as `download` sees them, after the preset's command in a project."""
    preset, project = ROOT / "presets" / f"{name}.yaml", tmp_path / "project"
    (project / "presets").mkdir(parents=True)
    shutil.copy(preset, project / "presets")
    command = re.search(r"^#   (sed .* \| python - (\S+))$", header(preset), re.MULTILINE)
    assert command
    (project / command[2]).mkdir()
    tree(project / command[2])
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", f"set -o pipefail; {command[1]}"], cwd=project, env=environment, check=True)

    out = tmp_path / "out"
    out.mkdir()
    dataset = Folder.model_validate(mapping(preset.read_text(encoding="utf-8"))["dataset"])
    sources.write(dataset, Workspace(project), out)
    rows = pd.read_parquet(out / "listing.parquet").itertuples(index=False)
    return [tuple(None if pd.isna(cell) else cell for cell in row) for row in rows]


@pytest.mark.parametrize("name", TREES)
def test_its_lines_write_the_official_split(name: str, tmp_path: Path) -> None:
    tree, expected = TREES[name]
    assert listing(name, tree, tmp_path) == expected


def test_aircraft_lose_their_banner(tmp_path: Path) -> None:
    listing("fgvc-aircraft", aircraft, tmp_path)
    with Image.open(tmp_path / "fgvc-aircraft-2013b" / "data" / "cropped" / "0034309.jpg") as image:
        assert image.size == (60, 40)


def test_pets_that_no_list_names_are_kept_apart(tmp_path: Path) -> None:
    listing("oxford-pets", pets, tmp_path)
    assert [path.name for path in (tmp_path / "oxford-iiit-pet" / "unlisted").iterdir()] == ["beagle_3.jpg"]


def test_cassava_is_cut_by_class_and_unlabelled_images_train(tmp_path: Path) -> None:
    rows = listing("cassava", cassava, tmp_path)
    assert rows[0] == ("extraimages/extra-image-0.jpg", None, "train")
    counts = pd.Series([row[1:] for row in rows[1:]]).value_counts().to_dict()
    assert counts == {
        (label, split): n for label in ("cbb", "healthy") for split, n in (("train", 27), ("val", 3), ("test", 10))
    }
