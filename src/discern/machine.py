"""What a process may use of this machine, claimed before torch and numpy are imported: threads and memory."""

import ctypes
import os

from discern.settings import settings

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def claim() -> None:
    """Set OpenMP's threads and the memory allocator for this process.

    OpenMP and torch read their part once, when they are imported; so this comes first.
    """
    _limit_threads()
    _keep_memory()


def allowed_threads() -> int:
    """CPU threads: the setting, or as many as cores that this process may run on."""
    if settings().threads:
        return settings().threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_environment(processes: int) -> dict[str, str]:
    """The environment of one of several processes that compute side by side.

    Each gets its share of the threads, and those that wait sleep: two processes with two spinning threads each on
    two cores ran ten times slower than one.
    """
    threads = str(max(1, allowed_threads() // processes))
    return {**os.environ, **dict.fromkeys(THREADS, threads), "OMP_WAIT_POLICY": "PASSIVE"}


def _limit_threads() -> None:
    """Waiting threads spin only shortly.

    Beside another busy process, libgomp's default spinning made training twenty times slower, this four times,
    and on a quiet machine it costs 6 %.
    """
    threads = str(allowed_threads())
    for name in THREADS:
        os.environ[name] = threads if settings().threads else os.environ.get(name, threads)
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def _keep_memory() -> None:
    """Freed memory stays with the process, in huge pages: a training step asks for the same blocks again.

    By default glibc gives every large block back and takes it anew: 70,000 page faults in a step of a ResNet-18 on
    128 views of 96 px, which took 700 ms with them and 510 ms without. Elsewhere than on Linux nothing happens.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch's CPU allocator
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, TypeError, OSError):
        return
    for parameter, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 << 20)):
        mallopt(parameter, value)
