"""`python -m discern.run STAGE [--method NAME] [--seed N]`: one stage, as its DVC command runs it.

What has to be settled before torch and numpy are imported is settled here: whose code runs, threads and memory.
"""

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from discern.errors import DiscernError, ParamsError
from discern.machine import claim
from discern.settings import silence_telemetry


def use_code_of_this_checkout() -> None:
    """Start again with this folder's code where the installed package is another checkout's.

    `dvc exp run --temp` and `--queue` work in a copy of the project; the editable install would silently run
    the main checkout's code, which may have changed since the experiment was queued.
    """
    here = Path.cwd() / "src"
    package = here / "discern"
    if package.is_dir() and not package.samefile(Path(__file__).parents[1]):
        path = os.pathsep.join(filter(None, [str(here), os.environ.get("PYTHONPATH")]))
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PYTHONPATH": path})  # noqa: S606


def main(argv: list[str]) -> int:
    """Run the stage that the first argument names; returns the exit code."""
    silence_telemetry()
    name = argv[0] if argv else ""
    try:
        if not name.isidentifier() or find_spec(f"discern.stages.{name}") is None:
            stages = ", ".join(sorted(p.stem for p in Path(__file__).parents[1].glob("stages/[a-z]*.py")))
            raise ParamsError(f"{name or 'no stage'}: name one of {stages}")
        claim()
    except DiscernError as problem:
        sys.stderr.write(f"discern: ERROR {problem}\n")
        return problem.exit_code
    from discern.run.runner import execute

    stage = import_module(f"discern.stages.{name}")
    return execute(name, stage.run, argv[1:], trains=getattr(stage, "TRAINS", False))


if __name__ == "__main__":
    use_code_of_this_checkout()
    sys.exit(main(sys.argv[1:]))
