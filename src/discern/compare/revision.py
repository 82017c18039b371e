"""One revision: a commit, an experiment of DVC, or the workspace, and the files that belong to it."""

import io
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import pandas as pd

from discern.dvcfiles.read import mapping, outs
from discern.errors import RevisionError

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Revision:
    """Files of one revision; those that DVC tracks come from its cache, or from the remote.

    Attributes:
        root: the checkout.
        name: as the user gave it; `workspace` for the files as they lie there.
        commit: full hash; of the workspace, that of its HEAD.
        subject: first line of the commit's message.
    """

    root: Path
    name: str
    commit: str
    subject: str

    @classmethod
    def find(cls, root: Path, name: str) -> "Revision":
        """Look a revision up.

        Args:
            root: the checkout.
            name: anything that Git resolves, the name of a DVC experiment, or `workspace`.

        Raises:
            RevisionError: there is none of that name, or no repository.
        """
        commit = _commit(root, "HEAD" if name == WORKSPACE else name) or _experiment(root, name)
        if commit is None:
            raise RevisionError(f"{name}: no such commit, tag, branch or experiment here; `git log` shows some")
        subject = "files as they lie here" if name == WORKSPACE else git(root, "log", "-1", "--format=%s", commit)
        return cls(root, name, commit, subject.strip())

    @property
    def in_workspace(self) -> bool:
        """Whether the files are those that lie in the checkout now."""
        return self.name == WORKSPACE

    @property
    def label(self) -> str:
        """The name, and the short hash where it says something else."""
        short = self.commit[:7]
        return self.name if self.in_workspace or self.commit.startswith(self.name) else f"{self.name} ({short})"

    def text(self, path: str) -> str | None:
        """A file that Git tracks, None where this revision has none."""
        if self.in_workspace:
            file = self.root / path
            return file.read_text(encoding="utf-8") if file.is_file() else None
        found = _git(self.root, "show", f"{self.commit}:{path}")
        return found.stdout if found.returncode == 0 else None

    def yaml(self, path: str) -> dict[str, Any]:
        """A YAML file that Git tracks, read as DVC reads it; empty where this revision has none."""
        return mapping(self.text(path))

    def tracked(self, path: str) -> IO[bytes] | None:
        """A file that DVC tracks, None where neither the cache nor the remote has it."""
        if self.in_workspace:
            file = self.root / path
            return file.open("rb") if file.is_file() else None
        from dvc.exceptions import DvcException
        from dvc_data.index import DataIndexDirError

        try:
            with self._files.open(path, "rb") as file:
                return io.BytesIO(file.read())
        except (DvcException, DataIndexDirError, OSError):
            return None

    def table(self, path: str) -> pd.DataFrame | None:
        """A table (.parquet or .csv) that DVC tracks, None where it cannot be had."""
        file = self.tracked(path)
        if file is None:
            return None
        return pd.read_parquet(file) if path.endswith(".parquet") else pd.read_csv(file)

    @cached_property
    def outs(self) -> dict[str, str]:
        """Checksum of every output in dvc.lock, by path."""
        return dict(outs(self.yaml("dvc.lock").get("stages", {})))

    @cached_property
    def _files(self) -> Any:
        from dvc.api import DVCFileSystem

        return DVCFileSystem(url=str(self.root), rev=self.commit)


def git(root: Path, *args: str) -> str:
    """Standard output of one git command.

    Raises:
        RevisionError: it failed.
    """
    done = _git(root, *args)
    if done.returncode:
        raise RevisionError(f"git {args[0]}: {' '.join(done.stderr.split())}")
    return done.stdout


def _git(root: Path, *args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=False)


def _commit(root: Path, name: str) -> str | None:
    found = _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return found.stdout.strip() if found.returncode == 0 else None


def _experiment(root: Path, name: str) -> str | None:
    """The commit of a DVC experiment: they lie under refs/exps, which Git does not search by name."""
    found = _git(root, "for-each-ref", "--sort=-committerdate", "--format=%(objectname) %(refname)", "refs/exps")
    for line in found.stdout.splitlines():
        commit, ref = line.split(" ", 1)
        if ref.rsplit("/", 1)[-1] == name:
            return commit
    return None
