"""One module per DVC stage: parameters → load → call the library → write outputs → record."""

import os
import sys
from pathlib import Path

from discern.settings import settings


def _use_code_of_this_checkout() -> None:
    """Start again with this folder's code where the installed package is another checkout's.

    `dvc exp run --temp` and `--queue` work in a copy of the project; the editable install would silently run
    the main checkout's code, which may have changed since the experiment was queued.
    """
    here = Path.cwd() / "src"
    package = here / "discern"
    if package.is_dir() and not package.samefile(Path(__file__).parents[1]):
        path = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONPATH": path})  # noqa: S606


def _limit_threads() -> None:
    """Give OpenMP and BLAS as many threads as this process may use.

    They read it once, when torch or numpy is imported: before a stage's `main` runs. Waiting threads spin only
    shortly: beside another busy process, libgomp's default spinning made training twenty times slower, this four
    times, and on a quiet machine it costs 6 %.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = str(settings().threads or allowed)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = threads if settings().threads else os.environ.get(name, threads)
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


_use_code_of_this_checkout()
_limit_threads()
