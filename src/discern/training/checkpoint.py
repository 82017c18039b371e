"""Checkpoints that survive kills, full disks and torn files: whole or absent, and never the only one."""

import hashlib
import logging
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from discern.errors import StorageError
from discern.workspace import atomic_file

State = dict[str, Any]

log = logging.getLogger(__name__)

KEPT = 2  # the newest, and the one before it in case the newest turns out to be damaged


@dataclass
class Checkpoint:
    """The checkpoints of one run; they lie outside DVC's outputs.

    A file is called `STEP-DIGEST.pt`, DIGEST being the first 16 characters of its SHA-256: damage shows.

    Attributes:
        folder: keyed by a hash of the stage's inputs and parameters, so another run never finds it.
        every_s: seconds between periodic saves.
    """

    folder: Path
    every_s: float = 60.0
    _last: float = field(default_factory=time.monotonic, repr=False)

    @property
    def files(self) -> list[Path]:
        """What there is, oldest first."""
        return sorted(self.folder.glob("[0-9]*-*.pt"))

    def due(self) -> bool:
        """Whether the periodic save is due."""
        return time.monotonic() - self._last >= self.every_s

    def save(self, state: State, final: bool = False) -> None:
        """Add a checkpoint and remove those before the last two.

        Args:
            state: tensors and plain values; its `step` names the file.
            final: the run stops now. Otherwise a checkpoint that cannot be written only costs a warning: training
                goes on, and what was saved before stays.

        Raises:
            StorageError: a final checkpoint cannot be written, e.g. because the disk is full.
        """
        self._last = time.monotonic()
        try:
            with atomic_file(self.folder / "new.pt") as partial:
                torch.save(state, partial)
                _flush_to_disk(partial)
                digest = _digest(partial)
            (self.folder / "new.pt").replace(self.folder / f"{state['step']:010d}-{digest}.pt")
        except (OSError, RuntimeError) as error:  # torch raises the latter when a disk is full
            kept = int(self.files[-1].name.partition("-")[0]) if self.files else 0
            problem = f"{self.folder}: the checkpoint of step {state['step']} cannot be written ({_brief(error)})"
            if final:
                raise StorageError(f"{problem}; free space, then `dvc repro` goes on from step {kept}") from error
            log.warning("%s; training goes on, step %d is the last one kept; free space", problem, kept)
            return
        for old in self.files[:-KEPT]:
            old.unlink(missing_ok=True)

    def load(self) -> State | None:
        """The newest undamaged state, on the CPU, or None; damaged files are named and removed."""
        for path in reversed(self.files):
            if path.stem.partition("-")[2] == _digest(path):
                state: State = torch.load(path, map_location="cpu", weights_only=True)
                return state
            log.warning("%s is damaged; going on from the checkpoint before it, or from the start", path)
            path.unlink()
        return None

    def discard(self) -> None:
        """Remove the folder once the stage's outputs are in place."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _flush_to_disk(path: Path) -> None:
    """Without it a power cut could leave a renamed file without content."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _brief(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).partition("\n")[0]
