"""Checkpoints that survive a kill: whole or absent, outside DVC's outputs, found by their inputs' hash."""

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from discern.workspace import atomic_file

State = dict[str, Any]


@dataclass
class Checkpoint:
    """The place of one run's checkpoint.

    Attributes:
        folder: keyed by a hash of the stage's inputs and parameters, so another run never finds it.
        every_s: seconds between periodic saves.
    """

    folder: Path
    every_s: float = 60.0
    _last: float = field(default_factory=time.monotonic, repr=False)

    @property
    def path(self) -> Path:
        """The checkpoint file."""
        return self.folder / "checkpoint.pt"

    def due(self) -> bool:
        """Whether the periodic save is due."""
        return time.monotonic() - self._last >= self.every_s

    def save(self, state: State) -> None:
        """Replace the checkpoint in one move."""
        with atomic_file(self.path) as partial:
            torch.save(state, partial)
        self._last = time.monotonic()

    def load(self, device: torch.device) -> State | None:
        """The saved state, or None where there is none or it cannot be read."""
        if not self.path.exists():
            return None
        try:
            state: State = torch.load(self.path, map_location=device, weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, KeyError):
            self.path.unlink()  # torn by a full disk or a foreign hand: starting anew is the safe way on
            return None
        return state

    def discard(self) -> None:
        """Remove the folder once the stage's outputs are in place."""
        shutil.rmtree(self.folder, ignore_errors=True)
