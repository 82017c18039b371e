"""Device, precision and determinism: the only place that knows about them."""

import logging
import os
from functools import lru_cache

import torch

from discern.errors import DeviceError
from discern.settings import settings

log = logging.getLogger(__name__)

# As torch names what a processor can do: of x86 and of ARM. Without any, oneDNN emulates bfloat16.
BFLOAT16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


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


def effective_precision(device: torch.device, precision: str) -> str:
    """What `precision` comes to on a device: bf16 is float32 on a processor that would only emulate it."""
    if precision != "bf16" or device.type != "cpu" or settings().emulate_bf16 or computes_bfloat16():
        return precision
    _say_float32()
    return "fp32"


def computes_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BFLOAT16)


@lru_cache(maxsize=1)
def _say_float32() -> None:
    """Once a process, and of several that train together in the first."""
    if os.environ.get("RANK", "0") == "0":
        log.info("this processor has no instructions for bfloat16: base.precision = bf16 is computed in float32")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 autocast where `precision` comes to bf16, otherwise a context that changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=effective_precision(device, precision) == "bf16")


def make_deterministic(enabled: bool) -> None:
    """Ask torch for deterministic kernels; on the CPU every run with as many threads is bit-equal."""
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(enabled, warn_only=True)
    # Filling fresh memory finds reads of unwritten memory, which nothing here does, and costs 13 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a property of the module
    torch.backends.cudnn.benchmark = not enabled
