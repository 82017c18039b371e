import csv
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from discern.data.rules import rules, tables
from discern.data.validation import Finding, check
from discern.errors import DataError
from discern.params.pipeline import Params, Validate
from discern.run.context import Context
from discern.stages.validate import run
from discern.tracking.record import Recorder
from discern.workspace import Workspace

PARAMS = Validate(max_quarantined=0.1, max_pixels=10**6, val_fraction=0.1, test_fraction=0.2)


def good_files(classes: int = 2, per_split: int = 4) -> pd.DataFrame:
    """A manifest that breaks no rule."""
    rows: list[dict[str, Any]] = [
        {"path": f"{c}/{split}{i}.png", "label": f"class{c}", "split": split}
        for c in range(classes)
        for split in ("train", "val", "test")
        for i in range(per_split)
    ]
    files = pd.DataFrame(rows)
    files["sha256"] = [hashlib.sha256(path.encode()).hexdigest() for path in files["path"]]
    files["width"], files["height"], files["format"] = 32, 16, "PNG"
    files["reason"] = pd.Series(None, index=files.index, dtype="object")
    return files


def broken(files: pd.DataFrame, params: Validate = PARAMS) -> dict[str, Finding]:
    return {finding.rule: finding for finding in check(files, params) if not finding.success}


def test_good_data_break_no_rule_and_give_the_same_findings_again() -> None:
    findings = check(good_files(), PARAMS)
    assert [finding.rule for finding in findings] == [rule.name for rule in rules(PARAMS, labelled=True)]
    assert all(finding.success for finding in findings)
    assert findings == check(good_files(), PARAMS)
    assert not broken(good_files().assign(label=None))


def test_every_rule_can_be_broken() -> None:
    """One manifest for each rule, with the severity it must have."""
    files = good_files()
    first, last = files.index[0], files.index[-1]

    def changed(column: str, value: Any) -> pd.DataFrame:
        copy = files.copy()
        copy[column] = copy[column].astype("object")
        copy.loc[first, column] = value
        return copy

    bad = files.copy()
    bad.loc[files.index[:3], "reason"] = "broken"
    swapped = files.copy()
    swapped.loc[last, "sha256"] = swapped.loc[first, "sha256"]
    cases = {
        "few_quarantined": (bad, "error", 3),
        "images_left": (files.assign(reason="broken"), "error", 0),
        "splits_filled": (files[files["split"] != "val"], "error", 1),
        "two_classes": (good_files(classes=1), "error", 0),
        "label_known": (changed("label", None), "error", 1),
        "class_in_train": (files[(files["label"] != "class0") | (files["split"] != "train")], "error", 1),
        "class_in_test": (files[(files["label"] != "class0") | (files["split"] != "test")], "error", 1),
        "class_in_val": (files[(files["label"] != "class0") | (files["split"] != "val")], "warning", 1),
        "path_unique": (changed("path", files.loc[last, "path"]), "error", 2),
        "checksum_form": (changed("sha256", "ABC"), "error", 1),
        "split_known": (changed("split", "holdout"), "error", 1),
        "format_known": (changed("format", "PPM"), "error", 1),
        "width_usable": (changed("width", 7), "error", 1),
        "height_usable": (changed("height", 7), "error", 1),
        "no_leak": (swapped, "error", 2),
        "no_copies": (swapped, "warning", 2),
        "one_label": (swapped, "warning", 2),
        "shape_usual": (changed("width", 161), "warning", 1),
    }
    assert cases.keys() == {rule.name for rule in rules(PARAMS, labelled=True)}
    for name, (case, severity, rows) in cases.items():
        finding = broken(case)[name]
        assert (finding.severity, finding.broken) == (severity, rows), name


def test_the_share_of_bad_files_is_a_bound_not_a_target() -> None:
    files = good_files(classes=2, per_split=10)  # 60 files
    files.loc[files.index[:6], "reason"] = "broken"
    assert "few_quarantined" not in broken(files)
    files.loc[files.index[6], "reason"] = "broken"
    assert "few_quarantined" in broken(files)


def test_a_split_may_be_empty_where_its_fraction_is_zero() -> None:
    files = good_files()
    without = files[files["split"] == "train"].assign(label=None)
    assert broken(without).keys() == {"splits_filled"}
    assert not broken(without, PARAMS.model_copy(update={"val_fraction": 0.0, "test_fraction": 0.0}))


def test_a_class_of_which_nothing_is_left_counts_as_empty() -> None:
    files = good_files(classes=20)
    files.loc[files["label"] == "class7", "reason"] = "broken"
    counts = tables(files, PARAMS)["classes"].to_dict("records")
    assert {"class": "class7", "train": 0, "val": 0, "test": 0} in counts
    assert broken(files)["class_in_train"].examples == [{"train": 0, "class": "class7"}]


def test_the_line_of_a_finding_names_examples_on_one_line() -> None:
    files = good_files()
    files["width"] = files["width"].where(files.index != 0, 5)
    files.loc[0, "path"] = "new\nline.png"
    line = broken(files)["width_usable"].line
    assert line == (
        "width_usable: the width is at least 8 px; 1 of 24 images break it, "
        "e.g. 'new line.png' (width = 5) (expect_column_values_to_be_between)"
    )


def png(shade: int, side: int = 16) -> bytes:
    encoded = io.BytesIO()
    Image.new("RGB", (side, side), (shade % 256, shade // 256, 0)).save(encoded, "PNG")
    return encoded.getvalue()


class Project:
    """A checkout whose download stage has run."""

    def __init__(self, root: Path, params: Params, files: list[tuple[str, str | None, str | None, bytes]]) -> None:
        self.workspace = Workspace(root)
        self.workspace.raw.mkdir(parents=True)
        with tarfile.open(self.workspace.raw / "images.tar", "w") as tar:
            for path, _, _, content in files:
                info = tarfile.TarInfo(path)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        listing = pd.DataFrame([file[:3] for file in files], columns=["path", "label", "split"])
        listing.astype("string").to_parquet(self.workspace.raw / "listing.parquet")
        source = {"name": "<b>pets</b>", "licence": "CC0", "url": None}
        (self.workspace.raw / "source.json").write_text(json.dumps(source))
        self.params = params

    def validate(self, **changes: float) -> None:
        section = self.params.validation.model_copy(update=changes)
        params = self.params.model_copy(update={"validation": section})
        record = Recorder("validate", self.workspace, tracking=False)
        run(Context("validate", 0, None, params, self.workspace, record))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def pets(count: int = 60) -> list[tuple[str, str | None, str | None, bytes]]:
    return [
        (f"{kind}/{i}.png", kind, None, png(i + 300 * n))
        for n, kind in enumerate(("cat", "dog"))
        for i in range(count)
    ]


def test_the_stage_writes_manifest_quarantine_findings_report_and_counts(root: Path, params: Params) -> None:
    files = [*pets(), ('cat/a "b",\n🌿.png', "cat", None, b"text"), ("dog/small.png", "dog", None, png(1, side=4))]
    project = Project(root, params, files)
    project.validate()
    out = project.workspace.validated
    manifest = pd.read_parquet(out / "manifest.parquet")
    assert manifest.columns.tolist() == [
        "path", "label", "split", "sha256", "bytes", "width", "height", "mode", "format", "offset", "size",
    ]  # fmt: skip
    assert len(manifest) == 120
    tar = (project.workspace.raw / "images.tar").read_bytes()
    row = manifest.iloc[77]
    assert hashlib.sha256(tar[row["offset"] : row["offset"] + row["size"]]).hexdigest() == row["sha256"]
    with (out / "quarantine.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.reader(table))
    assert rows[0] == ["path", "reason"]
    assert [path for path, _ in rows[1:]] == ['cat/a "b",\n🌿.png', "dog/small.png"]
    assert rows[2][1] == "4x4 px: a side is shorter than 8 px"
    counts = json.loads(project.workspace.data_metrics.read_text())
    assert {key: counts[key] for key in ("files", "images", "quarantined", "classes", "warnings")} == {
        "files": 122, "images": 120, "quarantined": 2, "classes": 2, "warnings": 0,
    }  # fmt: skip
    assert counts["train"] + counts["val"] + counts["test"] == 120
    assert counts["test"] == (manifest["split"] == "test").sum()
    assert json.loads((out / "expectations.json").read_text())["success"] is True
    html = (out / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;pets&lt;/b&gt;" in html
    assert "dog/small.png" in html
    assert not re.findall(r"(?:src|href)=\"(?!data:)|url\(|@import|https?://", html)


def test_the_same_data_give_the_same_bytes(root: Path, params: Params) -> None:
    project = Project(root, params, pets())
    contents = []
    for _ in range(2):
        project.validate()
        paths = [*sorted(project.workspace.validated.iterdir()), project.workspace.data_metrics]
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]


def test_unlabelled_images_pass(root: Path, params: Params) -> None:
    project = Project(root, params, [(path, None, None, content) for path, _, _, content in pets()])
    project.validate()
    assert json.loads(project.workspace.data_metrics.read_text())["classes"] == 0
    assert pd.read_parquet(project.workspace.validated / "manifest.parquet")["label"].isna().all()


def test_too_many_bad_files_stop_the_pipeline_and_leave_the_reasons(root: Path, params: Params) -> None:
    project = Project(root, params, [*pets(), *((f"cat/x{i}.jpg", "cat", None, b"text") for i in range(10))])
    with pytest.raises(DataError) as caught:
        project.validate(max_quarantined=0.05)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(
        "data gate: few_quarantined: at most 0.05 of the files may be bad (validate.max_quarantined); "
        "10 of 130 files break it, e.g. 'cat/x0.jpg'"
    )
    kept = root / ".discern" / "quarantine.csv"
    assert str(kept) in message
    assert len(kept.read_text().splitlines()) == 11
    assert "stopped by the data gate" in (root / ".discern" / "data-report.html").read_text()
    assert not project.workspace.validated.exists()
    project.validate(max_quarantined=0.1)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            [file for file in pets() if file[1] == "cat"],
            r"two_classes: .*one class only: remove its folder.*; found 1 classes",
        ),
        ([*pets(), ("stray.png", None, None, png(9999))], r"label_known: .*'stray\.png'"),
        ([*pets(), ("fish/1.png", "fish", None, png(9999))], r"class_in_test: .*'fish' \(test = 0\)"),
        ([(p, k, "test", c) for p, k, _, c in pets()], r"splits_filled: .*'train' \(images = 0\)"),
        ([(p, k, s, b"") for p, k, s, _ in pets(3)], "few_quarantined: .*; also broken: images_left"),
    ],
)
def test_data_that_cannot_be_used_stop_the_pipeline(
    root: Path, params: Params, files: list[tuple[str, str | None, str | None, bytes]], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Project(root, params, files).validate()
    assert "\n" not in str(caught.value)


def test_a_training_copy_of_a_test_image_is_quarantined(root: Path, params: Params) -> None:
    files = [(path, kind, ("train", "test")[i % 2], content) for i, (path, kind, _, content) in enumerate(pets())]
    copy = ("cat/copy.png", "cat", "train", files[1][3])
    project = Project(root, params, [*files, copy])
    project.validate()
    quarantine = (project.workspace.validated / "quarantine.csv").read_text().splitlines()
    assert quarantine[1:] == ["cat/copy.png,the same file as the test image cat/1.png"]
