"""A checkout of its own for scheduled runs: nobody's edits get into them, and they disturb nobody."""

import os
import subprocess
from pathlib import Path

from discern.dvcfiles.cache import cache_folder
from discern.errors import DiscernError
from discern.settings import settings


class CloneError(DiscernError):
    """The clone of a scheduled run cannot be made or brought up to date."""


def own_clone(origin: Path, revision: str) -> Path:
    """Clone `origin` under its .discern/clones, or bring the clone to `revision`.

    The clone shares the origin's DVC cache and MLflow, and keeps its checkpoints from run to run; what somebody
    changed in it is thrown away.

    Args:
        origin: the checkout whose commits are to be run.
        revision: branch, tag or commit of the origin.

    Returns:
        The clone's folder, at that revision.

    Raises:
        CloneError: Git refuses, e.g. because there is no such revision.
    """
    folder = origin / ".discern" / "clones" / "scheduled"
    if not (folder / ".git").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git(origin, "clone", "--quiet", str(origin), str(folder))
    _git(folder, "fetch", "--quiet", "--tags", "--prune", "origin", "+refs/heads/*:refs/remotes/origin/*")
    _git(folder, "checkout", "--quiet", "--force", "--detach", _resolve(folder, revision))
    (folder / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {cache_folder(origin)}\n", encoding="utf-8")
    return folder


def work_in(folder: Path) -> None:
    """Make the clone this process's working folder, its records going where the origin's go."""
    os.environ.setdefault("DISCERN_TRACKING_URI", settings().resolved_tracking_uri)
    os.chdir(folder)


def _resolve(folder: Path, revision: str) -> str:
    """The commit: a branch of the origin first, then whatever Git knows by that name."""
    find = ["git", "-C", str(folder), "rev-parse", "--verify", "--quiet", "--end-of-options"]
    for name in (f"refs/remotes/origin/{revision}", revision):
        done = subprocess.run([*find, f"{name}^{{commit}}"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    raise CloneError(f"{revision}: no such branch, tag or commit")


def _git(folder: Path, *args: str) -> None:
    done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CloneError(f"git {args[0]}: {' '.join(done.stderr.split())}")
