"""What DVC's files say about a stage."""

from pathlib import Path

import pytest

from discern.dvcfiles.graph import declared

DVC_YAML = """
stages:
  train:
    matrix: {method: "${methods.compared}", seed: "${methods.seeds}"}
    cmd: python -m x --method ${item.method}
    params: [base, "train.${item.method}", {"methods/${item.method}.yaml": null}, {other.yaml: [a]}]
    deps: ["data/packed", "models/base/${item.seed}", src/train.py]
  report:
    cmd: python -m report
    deps: [metrics]
"""

DVC_LOCK = """
schema: "2.0"
stages:
  download: {cmd: x, outs: [{path: data/raw}]}
  pack: {cmd: x, deps: [{path: data/raw/images.tar}], outs: [{path: data/packed}]}
  base@0: {cmd: x, deps: [{path: data/packed}], outs: [{path: models/base/0}]}
  base@1: {cmd: x, deps: [{path: data/packed}], outs: [{path: models/base/1}]}
  train@moco-0: {cmd: x, deps: [{path: models/base/0}], outs: [{path: metrics/moco/0.json}]}
  report: {cmd: x, deps: [{path: metrics}], outs: [{path: report.html}]}
"""

ITEM = {"item.method": "moco", "item.seed": 1}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    (tmp_path / "dvc.lock").write_text(DVC_LOCK)
    return tmp_path


def test_params_of_a_matrix_item(project: Path) -> None:
    assert declared(project, "train", ITEM).params == [
        "base",
        "train.moco",
        "described.moco",
    ]
    assert declared(project, "report", {}).params == []


def test_upstream_is_what_the_results_rest_on(project: Path) -> None:
    assert declared(project, "train", ITEM).upstream == {
        "download",
        "pack",
        "base@1",
    }
    # A folder dependency takes in the files that other stages write into it.
    assert declared(project, "report", {}).upstream == {"download", "pack", "base@0", "train@moco-0"}


def test_unknown_stage_and_first_run(project: Path, tmp_path: Path) -> None:
    assert declared(project, "other", {}).params is None
    (tmp_path / "dvc.lock").unlink()
    assert declared(project, "report", {}).upstream == frozenset()
    (tmp_path / "dvc.yaml").unlink()
    assert declared(project, "report", {}).params is None
