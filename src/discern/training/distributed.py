"""The processes that train together: one, or as many as torchrun started, through Lightning Fabric."""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from discern.errors import DeviceError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class World:
    """One process, or one of several that share every batch.

    Every process holds the same weights and computes its own part of each batch; gradients are averaged. Fabric is
    only imported where there are several: that takes five seconds.

    Args:
        device: of this process where it is alone; under torchrun only its type counts, and every process of a node
            gets a GPU of its own.

    Attributes:
        rank: number of this process among all; 0 writes the outputs.
        size: how many there are.
        device: of this process.

    Raises:
        DeviceError: more processes on this node than GPUs.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self.device = 0, int(os.environ.get("WORLD_SIZE", "1")), device
        self._fabric: Fabric | None = None
        if self.size > 1:
            self._join(device.type)

    def _join(self, device_type: str) -> None:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy

        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        if device_type == "cuda" and here > torch.cuda.device_count():
            raise DeviceError(
                f"{here} processes on this machine but {torch.cuda.device_count()} GPUs: lower DISCERN_PROCESSES"
                " or --nproc-per-node, or set DISCERN_DEVICE=cpu"
            )
        strategy = DDPStrategy(gradient_as_bucket_view=True)
        self._fabric = Fabric(
            accelerator=device_type, devices=here, num_nodes=self.size // here, strategy=strategy
        )
        self._fabric.launch()
        self.rank, self.device = self._fabric.global_rank, self._fabric.device

    def share(self, module: nn.Module) -> Any:
        """The module on the device; with several processes, wrapped so that its gradients are averaged."""
        return self._fabric.setup_module(module) if self._fabric else module.to(self.device)

    def backward(self, loss: Tensor) -> None:
        """Gradients of the loss, averaged over processes."""
        if self._fabric:
            self._fabric.backward(loss)
        else:
            loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types

    def unshared(self, model: Any, enabled: bool) -> AbstractContextManager[Any]:
        """Inside, gradients stay with each process: for all but the last part of an accumulated batch."""
        return self._fabric.no_backward_sync(model, enabled) if self._fabric else nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """Mean over processes of a tensor of any shape."""
        if self._fabric is None:
            return value
        mean = self._fabric.all_reduce(value, reduce_op="mean")
        assert isinstance(mean, Tensor)
        return mean

    def broadcast(self, value: Any) -> Any:
        """The first process's value, in every process."""
        return self._fabric.broadcast(value) if self._fabric else value

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in any process; all of them must ask at the same time."""
        if self._fabric is None:
            return list(flags)
        set_in = self.mean(torch.tensor(flags, dtype=torch.float32, device=self.device))  # share of the processes
        return [share > 0 for share in set_in.tolist()]
