"""What goes wrong on the way: signals, kills, missing labels, mistakes of the user."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from tests.pipeline.conftest import change_params, environment, make_project, run_in

pytestmark = pytest.mark.slow

ARCHIVE = {"kind": "archive", "mirrors": [], "sha256": "0" * 64, "licence": "x"}
LONG = {"pretrain_decoder.passes": 200}
UNTRACKED = {"DISCERN_TRACKING": "false"}
CHECKPOINTS = {"DISCERN_CHECKPOINT_SECONDS": "1"}


def checkpoints(root: Path) -> list[Path]:
    return sorted((root / ".discern" / "work").glob("*/0*.pt"))


def wait_for_checkpoint(root: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 600
    while not checkpoints(root):
        assert time.monotonic() < deadline
        assert process.poll() is None, "it ended before it could be stopped"
        time.sleep(0.1)


def curve(root: Path) -> list[dict[str, str]]:
    """The training curve of the base, row by row."""
    return list(csv.DictReader((root / "plots" / "training" / "base-0.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose base was trained undisturbed."""
    root = make_project(tmp_path_factory.mktemp("straight") / "project", LONG)
    run_in(root, "dvc", "repro", "pretrain_decoder@0", extra=UNTRACKED)
    return root


@pytest.mark.parametrize("started", ["by dvc", "by a flow"])
def test_training_does_not_outlive_whoever_started_it(started: str, tmp_path: Path) -> None:
    """kill -9 to dvc, or to the flow above it, and to nothing else: an orphan would train on unseen."""
    root = make_project(tmp_path / "project", LONG)
    run_in(root, "dvc", "repro", "pack", extra=UNTRACKED)
    dvc = [sys.executable, "-m", "dvc", "repro", "-s", "pretrain_decoder@0"]
    flow = "from flows import dvc; dvc.reproduce('pretrain_decoder@0', False, 'p', print)"
    process = subprocess.Popen(
        dvc if started == "by dvc" else [sys.executable, "-c", flow],
        cwd=root, env=environment(root) | UNTRACKED | CHECKPOINTS, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_checkpoint(root, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=20)
    for orphan in alive:
        orphan.kill()
    assert not alive
    assert checkpoints(root)
    run_in(root, "dvc", "repro", "-s", "pretrain_decoder@0", extra=UNTRACKED)
    assert not checkpoints(root)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_in_the_middle_of_training_and_gone_on(number: int, straight: Path, tmp_path: Path) -> None:
    root = make_project(tmp_path / "project", LONG)
    run_in(root, "dvc", "repro", "pack", extra=UNTRACKED)
    # A kill without warning loses what came after the last periodic checkpoint.
    env = environment(root) | UNTRACKED | CHECKPOINTS
    process = subprocess.Popen(
        ["dvc", "repro", "-s", "pretrain_decoder@0"], cwd=root, env=env, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_checkpoint(root, process)
    os.killpg(process.pid, number)
    assert process.wait(60) != 0
    assert not (root / "models" / "base" / "0").exists()
    step = int(checkpoints(root)[-1].name.partition("-")[0])
    done = run_in(root, "dvc", "repro", "-s", "pretrain_decoder@0", extra=UNTRACKED)
    assert f"going on after step {step} of" in done.stderr + done.stdout
    assert not list((root / ".discern" / "work").glob("*"))
    for name in ("encoder", "decoder", "ssl"):
        file = Path("models", "base", "0", f"{name}.safetensors")
        assert (root / file).read_bytes() == (straight / file).read_bytes(), name
    assert curve(root) == curve(straight)


def test_two_processes_train_stop_and_go_on_as_one_stage(tmp_path: Path) -> None:
    """`DISCERN_PROCESSES=2 dvc repro`: torchrun inside the stage; one process writes, a stop is one for both."""
    root = make_project(tmp_path / "project", {**LONG, "base.precision": "fp32"})
    run_in(root, "dvc", "repro", "pack", extra=UNTRACKED)
    two = UNTRACKED | {"DISCERN_PROCESSES": "2"}
    process = subprocess.Popen(
        ["dvc", "repro", "-s", "pretrain_decoder@0"], cwd=root, env=environment(root) | two | CHECKPOINTS,
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_checkpoint(root, process)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(60) != 0
    assert not (root / "models" / "base" / "0").exists()
    stopped_at = max(int(file.name.partition("-")[0]) for file in checkpoints(root))
    done = run_in(root, "dvc", "repro", "-s", "pretrain_decoder@0", extra={**two, "DISCERN_PROGRESS": "lines"})
    assert not list((root / ".discern" / "work").glob("*"))
    assert (root / "models" / "base" / "0" / "encoder.safetensors").exists()
    shares = [float(share) for share in re.findall(r"progress (\d\.\d+) loss", done.stderr + done.stdout)]
    together = curve(root)
    assert shares[0] * int(together[-1]["step"]) >= stopped_at

    run_in(root, "dvc", "repro", "-f", "-s", "pretrain_decoder@0", extra=UNTRACKED)
    alone = curve(root)
    assert [row["step"] for row in together] == [row["step"] for row in alone]
    # The same batches and the same losses. Training multiplies a difference several times a step: rounding to
    # bfloat16, 0.4 % of the first step's loss, is 10 % of the fourth's and hides every mistake. In float32 the
    # first row (three steps) is 1e-6 apart, with whatever instructions. It is 0.02 apart where each process
    # normalises by its own images, 0.03 without averaged gradients, 0.09 with other batches and 0.2 with half
    # the negatives.
    for term in ("contrastive", "reconstruction"):
        assert float(together[0][term]) == pytest.approx(float(alone[0][term]), rel=1e-4), term


def test_unlabelled_photographs_go_all_the_way(straight: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    with tarfile.open(straight / "data" / "raw" / "images.tar") as tar:
        for i, member in enumerate(tar.getmembers()):
            file = tar.extractfile(member)
            assert file
            (photos / f"{i:03}.png").write_bytes(file.read())
    root = make_project(tmp_path / "project", {"methods.compared": ["random_init"]})
    change_params(root, {"dataset": {"kind": "folder", "path": str(photos), "licence": "mine"}})
    run_in(root, "dvc", "repro", extra=UNTRACKED)
    summary = json.loads((root / "metrics" / "summary.json").read_text())
    figures = json.loads((root / "metrics" / "methods" / "discern" / "0.json").read_text())
    assert "probe" not in figures
    assert figures["label_free"]["view_rank1"] > 0
    assert summary["methods"]["discern"]
    assert "report:" in run_in(root, "discern", "results").stdout


@pytest.mark.parametrize(
    ("change", "stage", "expected"),
    [
        ({"pack.image_size": 0}, "pack", r"params\.yaml: pack\.image_size = 0: input should be greater"),
        ({"dataset": {"kind": "folder", "path": "nowhere", "licence": "x"}}, "download", r"nowhere"),
        ({"dataset": {"kind": "folder", "path": "empty", "licence": "x"}}, "download", r"empty"),
        ({"dataset": {"kind": "folder", "path": "one", "licence": "x"}}, "validate", r"one class"),
        (
            {"dataset": ARCHIVE | {"url": "no.tar"}},
            "download", r"no\.tar",
        ),
        (
            {"dataset": ARCHIVE | {"url": "params.yaml"}},
            "download", r"params\.yaml.*(sha256|checksum)",
        ),
    ],
    ids=["image size 0", "missing folder", "empty folder", "one class", "missing archive", "wrong checksum"],
)  # fmt: skip
def test_user_errors_are_one_line_without_traceback(
    change: dict[str, Any], stage: str, expected: str, tmp_path: Path
) -> None:
    root = make_project(tmp_path / "project", change)
    (root / "empty").mkdir()
    (root / "one" / "only").mkdir(parents=True)
    for i in range(12):
        Image.new("RGB", (32, 32), (i * 20, 99, 40)).save(root / "one" / "only" / f"{i}.png")
    done = run_in(root, "dvc", "repro", stage, check=False, extra=UNTRACKED)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    said = [line for line in output.splitlines() if line.startswith("discern: ERROR")]
    assert len(said) == 1, output
    assert re.search(expected, said[0]), said[0]
    assert "Traceback" not in output
