"""How every stage runs: arguments, threads, parameters, record, signals, and what its errors look like."""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from discern.dvcfiles.graph import declared
from discern.errors import DiscernError, InterruptedStageError, StorageError
from discern.machine import shared_environment
from discern.nested import flat
from discern.params.load import load
from discern.run import guardian, signals
from discern.run.context import Context
from discern.settings import settings
from discern.tracking.record import Recorder
from discern.workspace import Workspace


def execute(
    stage: str, run: Callable[[Context], None], argv: list[str] | None = None, trains: bool = False
) -> int:
    """Run one stage in the current folder, as its DVC command does.

    Args:
        stage: the stage's name without matrix key; where DVC runs one program as several stages, DVC's name
            is used.
        run: what it does.
        argv: `--seed N`, `--method NAME`; default the process's own.
        trains: whether it may run as several processes.

    Returns:
        Exit code: 0, the `exit_code` of a DiscernError (told in one line), or 1 after a traceback.
    """
    stage = os.environ.get("DVC_STAGE", stage).partition("@")[0]
    logging.basicConfig(level=logging.INFO, format=f"{stage}: %(message)s", stream=sys.stderr, force=True)
    signals.install()
    guardian.watch()
    seed, method = _arguments(stage, argv)
    if trains and settings().processes > 1 and "WORLD_SIZE" not in os.environ:
        _start_processes(settings().processes)
    try:
        _run(stage, seed, method, run)
    except InterruptedStageError as error:
        _say("stopped; checkpoint saved; run `dvc repro` to go on")
        return error.exit_code
    except DiscernError as error:
        _say(f"ERROR {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("stopped at once")
        return InterruptedStageError.exit_code
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            _say(f"ERROR the disk is full ({error.filename or stage}); free space, then run `dvc repro` again")
            return StorageError.exit_code
        logging.getLogger(stage).exception("failed")
        return 1
    return 0


def _run(stage: str, seed: int | None, method: str | None, run: Callable[[Context], None]) -> None:
    workspace = Workspace(Path.cwd())
    params = load(Path("params.yaml"))
    described = {name: one.model_dump(mode="json") for name, one in params.described.items()}
    plain = {**params.model_dump(by_alias=True, mode="json"), "described": described}
    known = declared(workspace.root, stage, {**flat(plain), "item.seed": seed, "item.method": method})
    # Of several processes that train together, the first keeps the record and writes the outputs.
    tracking = False if os.environ.get("RANK", "0") != "0" else None
    record = Recorder(_stage_id(stage, seed, method), workspace, plain, known.params, known.upstream, tracking)
    status = "FAILED"
    try:
        run(Context(stage, seed or 0, method, params, workspace, record))
        signals.check()  # a bare `except` of some library can swallow even that
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        with signals.deferred():
            record.finish(status)


def _start_processes(count: int) -> NoReturn:
    """Become torchrun with this stage as its program."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    program = [sys.executable, *launcher, *sys.orig_argv[1:]]
    os.execve(sys.executable, program, shared_environment(count))  # noqa: S606


def _arguments(stage: str, argv: list[str] | None) -> tuple[int | None, str | None]:
    parser = argparse.ArgumentParser(prog=stage, description=f"The stage {stage}; `dvc repro {stage}` runs it.")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--method")
    options = parser.parse_args(argv)
    return options.seed, options.method


def _stage_id(stage: str, seed: int | None, method: str | None) -> str:
    key = "-".join(str(part) for part in (method, seed) if part is not None)
    return f"{stage}@{key}" if key else stage


def _say(line: str) -> None:
    sys.stderr.write(f"discern: {line}\n")
