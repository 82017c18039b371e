"""Is the run well? Collapse, chance level, lost losses and where the time goes."""

import math
import resource
import sys

import torch
from torch import Tensor

from discern.errors import ModelError
from discern.training.distributed import World

Row = dict[str, float | None]
NEAR_CHANCE = 0.98  # of the chance level: a loss above it has learnt nothing
COLLAPSED = 0.1  # of the spread over a sphere


class Window:
    """The losses of the steps since the last row; tensors, so that no step waits for them.

    Args:
        world: the processes; figures are means over them.
        steps: losses by name of each step, e.g. from a checkpoint.
    """

    def __init__(self, world: World, steps: list[dict[str, Tensor]] | None = None) -> None:
        self.world, self.steps = world, steps or []

    def add(self, losses: dict[str, Tensor]) -> None:
        """Take in one more step."""
        self.steps.append(losses)

    def means(self) -> Row:
        """Mean of every loss over steps and processes, which must all ask for it; the window starts again."""
        names, table = self._table()
        self.steps = []
        return dict(zip(names, table.mean(0).tolist(), strict=True))

    def shared(self) -> list[dict[str, Tensor]]:
        """Losses by name of each step, means over the processes, which must all ask for them."""
        if not self.steps:
            return []
        names, table = self._table()
        return [dict(zip(names, losses, strict=True)) for losses in table]

    def _table(self) -> tuple[list[str], Tensor]:
        names = list(self.steps[0])
        table = torch.stack([torch.stack([step[name] for name in names]) for step in self.steps])
        return names, self.world.mean(table)  # (steps, names)

    def first_lost(self) -> int | None:
        """How many steps ago the first loss came that is infinite or not a number (0: the last); None: none.

        In any of the processes, which must all ask.
        """
        if not self.steps:
            return None
        losses = torch.stack([step["loss"] for step in self.steps])
        lost = ~torch.isfinite(self.world.mean(losses))
        return len(self.steps) - 1 - int(lost.int().argmax()) if lost.any() else None


def lost_run(name: str, what: str, step: int, epoch: int, rows: Tensor) -> ModelError:
    """The error of a run whose loss or gradient is infinite or not a number.

    Args:
        name: of the run.
        what: `loss` or `gradient`.
        step: the first such step, from 0.
        epoch: it belongs to.
        rows: numbers of its images (N,).
    """
    shown = ", ".join(str(int(row)) for row in rows[:8])
    more = f" and {len(rows) - 8} more" if len(rows) > 8 else ""
    return ModelError(
        f"{name}: the {what} is lost (infinite or NaN) at step {step + 1}, epoch {epoch + 1}; that batch is rows"
        f" {shown}{more} of data/packed/train. Lower base.optimizer.lr, set base.optimizer.clip (e.g. 1.0), or set"
        " base.precision: fp32"
    )


def warnings(rows: list[Row]) -> list[str]:
    """What is wrong with a finished run, judged by its last row; empty where nothing is."""
    if not rows:
        return []
    chance, spread = (rows[-1].get(key) for key in ("chance", "std"))
    # The sum may hold terms that have no chance level; L_C has one.
    loss = rows[-1].get("contrastive", rows[-1].get("loss"))
    found = []
    if loss is not None and chance is not None and loss > NEAR_CHANCE * chance:
        found.append(
            f"the loss ends at {loss:.3f}, still near its chance level {chance:.3f}: nothing was learnt; more"
            " passes, or another base.optimizer.lr"
        )
    if spread is not None and spread < COLLAPSED:
        found.append(
            f"the embedding has collapsed: its spread is {spread:.3f} of that over a sphere; lower"
            " base.optimizer.lr"
        )
    return found


def spread(embedding: Tensor) -> float:
    """Mean standard deviation of normalised embeddings (N, d) times sqrt(d): 1 is healthy, 0 is collapse."""
    return float(embedding.float().std(0).mean() * math.sqrt(embedding.shape[1]))


def memory_gb(device: torch.device) -> float:
    """Peak memory of this process on its device since it started, in GB (10^9 bytes)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts in bytes, Linux in KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
