"""Device, precision and determinism: the only place that knows about them."""

import os

import torch

from discern.errors import DeviceError
from discern.settings import settings


def resolve_device() -> torch.device:
    """The device of `DISCERN_DEVICE`; `auto` is CUDA where there is one.

    Raises:
        DeviceError: CUDA was asked for and is not there.
    """
    wanted = settings().device
    if rank := os.environ.get("LOCAL_RANK"):  # one of several processes: each has a GPU of its own
        wanted = f"cuda:{rank}" if wanted != "cpu" and torch.cuda.is_available() else wanted
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(f"DISCERN_DEVICE={wanted}: no CUDA device is visible; use auto or cpu")
    return torch.device(wanted)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 autocast where `precision` is bf16, otherwise a context that changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def make_deterministic(enabled: bool) -> None:
    """Ask torch for deterministic kernels; on the CPU every run with as many threads is bit-equal."""
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(enabled, warn_only=True)
    # Filling fresh memory finds reads of unwritten memory, which nothing here does, and costs 13 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    torch.backends.cudnn.benchmark = not enabled
