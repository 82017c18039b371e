"""The flow's parts that need no server: the order of stages, overrides, pictures, stopping processes."""

import base64
import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from discern.errors import ParamsError
from discern.params.edit import Edit

ROOT = Path(__file__).parents[2]


def test_stages_come_after_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import dvc

    answers = {
        "stage": "report\npack\ntrain@b-0\ntrain@a-0\n",
        "dag": 'strict digraph {\n"pack";\n"pack" -> "train@a-0";\n"pack" -> "train@b-0";\n'
        '"train@a-0" -> "report";\n"train@b-0" -> "report";\n}\n',
    }
    monkeypatch.setattr(dvc, "output", lambda *args: answers[args[0]])
    assert dvc.stages_in_order([]) == ["pack", "train@b-0", "train@a-0", "report"]
    assert dvc.stages_in_order(["train@a-0"]) == ["pack", "train@a-0"]
    assert dvc.stages_in_order(["train"]) == ["pack", "train@b-0", "train@a-0"]
    with pytest.raises(dvc.DvcError, match="evaluate: no such stage"):
        dvc.stages_in_order(["evaluate"])


def test_stages_of_a_real_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import dvc

    (tmp_path / "dvc.yaml").write_text(
        "stages:\n"
        "  b: {cmd: x, deps: [a.txt], outs: [b.txt]}\n"
        "  a: {matrix: {s: [0, 1]}, cmd: x, outs: ['${item.s}.txt']}\n"
        "  c: {cmd: x, deps: [0.txt], outs: [a.txt]}\n"
    )
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    assert dvc.stages_in_order([]) == ["a@0", "c", "b", "a@1"]
    (tmp_path / "dvc.yaml").write_text("stages: [")
    with pytest.raises(dvc.DvcError, match=r"dvc\.yaml"):
        dvc.stages_in_order([])


def override(root: Path, *overrides: str) -> None:
    edit = Edit(root)
    for one in overrides:
        edit.assign(one)
    edit.write()


def test_overrides_change_values_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    path.write_text(text)
    shutil.copytree(ROOT / "methods", tmp_path / "methods", symlinks=True)
    override(tmp_path, "train_encoder.pair_weight=0.25", "methods.seeds=[0, 1]", "methods/simclr.yaml:dim=64")
    assert "dim: 64" in (tmp_path / "methods" / "simclr.yaml").read_text()
    changed = [
        (old, new)
        for old, new in zip(text.splitlines(), path.read_text().splitlines(), strict=True)
        if old.split() != new.split()
    ]
    assert [new.strip() for _, new in changed] == ["seeds: [0, 1]", "pair_weight: 0.25"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("train_encoder.pair_weight", "write key=value"),
        ("train_encoder.weight=1", "train_encoder.weight is not in params.yaml"),
        ("nowhere.at.all=1", "nowhere.at.all is not in params.yaml"),
        ("train_encoder.pair_weight=-1", "train_encoder.pair_weight = -1"),
        ("methods.seeds=[0", "not valid YAML"),
        ("methods/simclr.yaml:dimm=8", "dimm is not in methods/simclr.yaml"),
        ("methods/simclr.yaml:dim=1", "simclr.yaml: dim = 1: input should be greater"),
        ("methods/moco.yaml:queue=-1", "moco.yaml: queue = -1: input should be greater"),  # not among the compared
        ("methods/nobody.yaml:dim=8", "nobody.yaml: no such file"),
        ("dvc.yaml:stages=1", "dvc.yaml: parameters stand in params.yaml and methods/NAME.yaml alone"),
    ],
)
def test_wrong_override_changes_nothing(tmp_path: Path, wrong: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    shutil.copytree(ROOT / "methods", tmp_path / "methods", symlinks=True)
    with pytest.raises(ParamsError) as error:
        override(tmp_path, "methods.seeds=[7]", wrong)
    assert message in str(error.value)
    assert path.read_text() == (ROOT / "params.yaml").read_text()


def test_stubborn_processes_are_killed() -> None:
    """A leader that dies politely and a grandchild that does not."""
    from flows.dvc import stop_session

    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('on', flush=True); time.sleep(60)"
    )
    leader_code = (
        f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {deaf!r}]); time.sleep(60)"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", leader_code], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout is not None
    assert leader.stdout.readline() == "on\n"
    (child,) = psutil.Process(leader.pid).children()
    started = time.monotonic()
    stop_session(leader, grace=1)
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert 1 <= time.monotonic() - started < 6


def test_a_stopped_stage_keeps_its_exit_code() -> None:
    """Without it a stage that was stopped half-way would pass for one that ended well."""
    from flows.dvc import stop_session

    slow = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(3)));"
        "print('on', flush=True); time.sleep(60)"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", slow], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert leader.stdout is not None
    assert leader.stdout.readline() == "on\n"
    stop_session(leader)
    assert leader.returncode == 3


def test_results_are_the_reports_table(tmp_path: Path) -> None:
    from flows.pictures import mlflow_link, results_table

    assert results_table(tmp_path) is None
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/table.md").write_text("| method | top-1 |\n| --- | --- |\n")
    assert results_table(tmp_path) == "| method | top-1 |\n| --- | --- |"
    assert mlflow_link({"run_id": "7", "url": "http://host/#/7"}) == "[MLflow run](http://host/#/7)"
    assert "`7`" in mlflow_link({"run_id": "7", "url": None})
    assert mlflow_link({}) == "No MLflow run was recorded."


def test_picture_fits_into_the_artifact(tmp_path: Path) -> None:
    from flows.pictures import data_uri

    Image.new("RGB", (1800, 600), (10, 200, 30)).save(tmp_path / "pairs.png")
    head, _, body = data_uri(tmp_path / "pairs.png").partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(body)))
    assert (head, picture.size, picture.getpixel((5, 5))) == ("data:image/png;base64", (900, 300), (10, 200, 30))


def commit(root: Path, text: str) -> None:
    (root / "note.txt").write_text(text)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["add", "."], [*who, "commit", "-qm", text]):
        subprocess.run(["git", "-C", str(root), *command], check=True)


def test_a_scheduled_run_has_a_clone_of_its_own(tmp_path: Path) -> None:
    from flows.clone import CloneError, own_clone

    origin = tmp_path / "origin"
    subprocess.run(["git", "init", "-q", "-b", "main", str(origin)], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=origin, check=True)
    commit(origin, "first")
    (origin / "note.txt").write_text("half an edit")
    folder = own_clone(origin, "main")
    assert (folder / "note.txt").read_text() == "first"
    shared = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert Path(shared.stdout.strip()) == origin / ".dvc" / "cache"
    (folder / "note.txt").write_text("left by an accident")
    (folder / "checkpoint").write_text("kept")
    commit(origin, "second")
    assert own_clone(origin, "main") == folder
    assert (folder / "note.txt").read_text() == "second"
    assert (folder / "checkpoint").read_text() == "kept"
    assert (own_clone(origin, "HEAD~1") / "note.txt").read_text() == "first"
    for wrong in ("nowhere", "--output=x"):
        with pytest.raises(CloneError, match="no such branch, tag or commit"):
            own_clone(origin, wrong)


def test_checks_and_findings_are_tables(tmp_path: Path) -> None:
    from discern.registry.gate import Check
    from discern.registry.promotion import Decision
    from flows.data import findings
    from flows.promotion import checks

    failed = Decision("3", "2", [Check("floor", True, "57.0"), Check("clean tree", False, "it is dirty")])
    text = checks(failed, promote=True)
    assert text.startswith("Version 3 stays what it is; champion before: 2.")
    assert "| ✗ | clean tree | it is dirty |" in text
    assert "could be champion" in checks(Decision("1", None, [Check("floor", True, "")]), promote=False)

    (tmp_path / "metrics").mkdir()
    (tmp_path / "data" / "validated").mkdir(parents=True)
    (tmp_path / "metrics" / "data.json").write_text('{"files": 3000, "quarantined": 30}')
    rows = "".join(f"bird{i}.jpg,empty\n" for i in range(30))
    (tmp_path / "data" / "validated" / "quarantine.csv").write_text(f"path,reason\n{rows}")
    found = findings(tmp_path)
    assert "| files | 3,000 |" in found
    assert "bird19.jpg,empty" in found
    assert "bird20.jpg" not in found
    assert "and 10 more" in found
