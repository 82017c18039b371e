"""One module per DVC stage: parameters → load → call the library → write outputs → record."""

import os
import sys
from pathlib import Path

from discern.errors import SettingsError
from discern.machine import claim


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


_use_code_of_this_checkout()
try:
    claim()
except SettingsError as problem:
    sys.stderr.write(f"discern: ERROR {problem}\n")
    sys.exit(problem.exit_code)
