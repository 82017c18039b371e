"""Fetching exactly what one stage needs: `dvc pull STAGE` would fetch what it made."""

import subprocess
import sys
from pathlib import Path

from discern.dvcfiles.read import outs, overlap, stages
from discern.errors import DataError


def needed(root: Path, stage: str) -> list[str]:
    """Outputs of other stages that a stage reads, as dvc.lock has them.

    Args:
        root: the checkout.
        stage: its name, e.g. `train_encoder@0`, or a group (`train_encoder` for every seed).

    Raises:
        DataError: dvc.lock has no such stage.
    """
    locked = stages(root / "dvc.lock")
    chosen = [entry for name, entry in locked.items() if stage in (name, name.partition("@")[0])]
    if not chosen:
        known = ", ".join(sorted({name.partition("@")[0] for name in locked}))
        raise DataError(f"dvc.lock: no stage {stage}; it has {known or 'none'}")
    deps = {dep["path"] for entry in chosen for dep in entry.get("deps", [])}
    read = sorted({path for path, _ in outs(locked) if any(overlap(path, dep) for dep in deps)})
    command = ["git", "-C", str(root), "ls-files", "--", *read]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    in_git = set(listed.stdout.splitlines())  # figures, which came with the commit
    return [path for path in read if path not in in_git]


def pull(root: Path, stage: str) -> list[str]:
    """Fetch what a stage needs from the DVC remote; returns the paths.

    Raises:
        DataError: dvc.lock has no such stage, or the remote does not have everything.
    """
    paths = needed(root, stage)
    if paths:
        command = [sys.executable, "-m", "dvc", "pull", *paths]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DataError(f"dvc pull: {' '.join(done.stderr.split())}")
    return paths
