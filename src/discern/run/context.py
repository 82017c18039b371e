"""What every stage is given: parameters, paths, device and the record of its run."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from discern.params.pipeline import Params
from discern.tracking.record import Recorder
from discern.workspace import Workspace

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Context:
    """One stage at work.

    Attributes:
        stage: the DVC stage's name without its matrix key, e.g. `train_control`.
        seed: the matrix seed; 0 where the stage has none.
        method: the method's name, or None where the stage has none.
        params: all parameters; a stage may only use the keys that dvc.yaml lists for it.
        workspace: where inputs lie and outputs go.
        record: takes metrics, artifacts and the data set used.
    """

    stage: str
    seed: int
    method: str | None
    params: Params
    workspace: Workspace
    record: Recorder

    @cached_property
    def device(self) -> "torch.device":
        """The device of this run, from the settings; the record keeps what precision comes to on it."""
        from discern.training.device import effective_precision, resolve_device

        device = resolve_device()
        self.record.precision = effective_precision(device, self.params.base.precision)
        return device
