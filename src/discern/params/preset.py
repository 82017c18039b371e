"""Presets: overlays of params.yaml and methods/ for published set-ups."""

import difflib
import subprocess
from pathlib import Path

from ruamel.yaml import YAML

from discern.errors import ParamsError
from discern.params.edit import Edit
from discern.params.load import read_mapping

PRESETS = "presets"


def presets(root: Path) -> dict[str, str]:
    """Every preset of a project with the first line of its header.

    Raises:
        ParamsError: the project has none.
    """
    files = sorted((root / PRESETS).glob("*.yaml"))
    if not files:
        raise ParamsError(f"{root / PRESETS}: no presets here; run from the project's root")
    first = {file.stem: file.read_text(encoding="utf-8").partition("\n")[0] for file in files}
    return {name: line.lstrip("# ") for name, line in first.items()}


def prepared(root: Path, name: str) -> Edit:
    """The project's parameters with a preset laid over them; nothing is written yet.

    Raises:
        ParamsError: there is no such preset, or it does not fit the parameters.
    """
    known = presets(root)
    if name not in known:
        raise ParamsError(f"{name}: no such preset; there are {', '.join(known)}")
    text = (root / PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
    read_mapping(text, f"{PRESETS}/{name}.yaml")
    edit = Edit(root)
    edit.overlay(YAML().load(text))  # keeps the way that lists and mappings are written
    return edit


def differences(edit: Edit) -> list[str]:
    """What would change, as lines of a unified difference."""
    lines: list[str] = []
    for file, text in edit.texts().items():
        before = (edit.root / file).read_text(encoding="utf-8")
        lines += difflib.unified_diff(before.splitlines(), text.splitlines(), file, file, lineterm="", n=1)
    return lines


def refuse_uncommitted(edit: Edit) -> None:
    """Stop before edits are written over that nobody could bring back.

    Raises:
        ParamsError: a file that would change has edits that are in no commit, or Git cannot tell.
    """
    files = list(edit.texts())
    if not files:
        return
    # Files that Git does not follow are told as well, whatever the user's settings hide: no commit has them.
    told = ["--porcelain", "--untracked-files=all", "--ignored"]
    command = ["git", "-C", str(edit.root), "status", *told, "--", *files]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ParamsError(
            "git is not installed, so nothing says what is committed; --force writes anyway"
        ) from error
    if done.returncode:
        raise ParamsError(
            f"{edit.root}: no Git repository that can be read ({done.stderr.strip()}), so nothing could be brought"
            " back; --force writes anyway"
        )
    if changed := [line[3:] for line in done.stdout.splitlines()]:
        raise ParamsError(f"{', '.join(changed)}: uncommitted edits; commit them, or --force writes over them")
