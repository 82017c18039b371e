"""`discern preset` as a person meets it: the difference, and edits that nobody loses."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from discern import cli
from discern.params.preset import prepared

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed project of parameters alone."""
    for name in ("methods", "presets"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "start")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["discern", "preset", *argv])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


def test_it_writes_both_kinds_of_files_and_shows_the_difference(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "own-photos") == 0
    shown = capsys.readouterr().out
    assert "+  image_size: 128" in shown
    assert "+++ methods/simclr.yaml" in shown
    assert "+hidden: 512" in shown
    changed = {line[3:] for line in git(project, "status", "--porcelain").splitlines()}
    assert changed == {"params.yaml", "methods/simclr.yaml"}


@pytest.mark.parametrize("edited", ["params.yaml", "methods/simclr.yaml"])
def test_uncommitted_edits_are_written_over_only_by_force(
    edited: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project / edited
    file.write_text(file.read_text() + "# an edit\n")
    before = {path: path.read_bytes() for path in (project / "params.yaml", project / "methods" / "simclr.yaml")}
    assert run(monkeypatch, "own-photos") == 2
    assert f"{edited}: uncommitted edits; commit them, or --force" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert run(monkeypatch, "own-photos", "--force") == 0
    assert "hidden: 512" in (project / "methods" / "simclr.yaml").read_text()


def test_a_dry_run_writes_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "cub200", "--dry-run") == 0
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.parametrize("hidden", ["ignored", "untracked"])
def test_a_file_that_git_does_not_show_counts_as_uncommitted(
    hidden: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    git(project, "rm", "-q", "--cached", "params.yaml")
    git(project, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "not followed")
    if hidden == "ignored":
        (project / ".gitignore").write_text("params.yaml\n")
    else:
        git(project, "config", "status.showUntrackedFiles", "no")
    before = (project / "params.yaml").read_bytes()
    assert run(monkeypatch, "own-photos") == 2
    assert "params.yaml: uncommitted edits" in capsys.readouterr().err
    assert (project / "params.yaml").read_bytes() == before


def test_a_preset_in_force_changes_nothing_and_refuses_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "own-photos") == 0
    status = git(project, "status", "--porcelain")
    assert status  # what the first time wrote is in no commit
    capsys.readouterr()
    assert run(monkeypatch, "own-photos") == 0
    assert capsys.readouterr().out == "presets/own-photos.yaml is in force already; nothing changes\n"
    assert git(project, "status", "--porcelain") == status


def test_edits_elsewhere_do_not_matter(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "methods" / "dino.yaml").write_text("kind: dino\n")
    assert run(monkeypatch, "own-photos") == 0


def test_all_files_are_written_or_none(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up: the file of a method that comes after params.yaml cannot be written."""
    write = Path.write_text

    def full(path: Path, *args: Any, **options: Any) -> int:
        if "moco" in path.name:
            write(path, "half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, *args, **options)

    edit = prepared(project, "cub200")
    assert {"params.yaml", "methods/moco.yaml"} <= set(edit.texts())
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        edit.write()
    assert git(project, "status", "--porcelain") == ""


@pytest.mark.parametrize("text", ["# Mine\npack: [\n", "# Mine\n", "# Mine\n- 1\n"])
def test_a_preset_that_is_no_mapping_is_told(
    text: str, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "presets" / "mine.yaml").write_text(text)
    assert run(monkeypatch, "mine") == 2
    assert "discern: presets/mine.yaml: " in capsys.readouterr().err


def test_without_git_it_takes_force(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(project / ".git")
    assert run(monkeypatch, "own-photos") == 2
    assert "no Git repository" in capsys.readouterr().err
    assert run(monkeypatch, "own-photos", "--force") == 0


def test_presets_are_listed_and_an_unknown_one_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch) == 0
    assert "cub200          CUB-200-2011: 200 bird species" in capsys.readouterr().out
    assert run(monkeypatch, "cub2000") == 2
    assert "cub2000: no such preset; there are cassava, cub200" in capsys.readouterr().err
    monkeypatch.chdir(project / "methods")
    assert run(monkeypatch) == 2
    assert "run from the project's root" in capsys.readouterr().err
