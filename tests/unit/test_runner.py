"""What every stage does around its work: exit codes, errors in one line, signals, threads, parameters."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from discern.errors import DataError, InterruptedStageError
from discern.run import signals
from discern.run.context import Context
from discern.run.runner import execute
from discern.settings import settings
from discern.tracking import run_record
from discern.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the real params.yaml, no MLflow, and signal handlers put back afterwards."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "methods", tmp_path / "methods", symlinks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISCERN_TRACKING", "false")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr(signals, "_requested", False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    loggers = logging.root.handlers[:]
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()
    logging.root.handlers[:] = loggers
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_success_leaves_a_record(checkout: Path) -> None:
    seen: list[Context] = []

    def run(ctx: Context) -> None:
        seen.append(ctx)
        ctx.record.metrics({"images_per_second": 3.0})

    assert execute("train_control", run, ["--method", "random_dims", "--seed", "3"]) == 0
    (ctx,) = seen
    assert (ctx.stage, ctx.method, ctx.seed) == ("train_control", "random_dims", 3)
    assert ctx.workspace.root == checkout
    record = run_record.load(Workspace(checkout).run_record("train_control@random_dims-3"))
    assert record.metrics == {"images_per_second": 3.0}
    assert (record.tracking, record.threads) == ("off", 1)


@pytest.mark.parametrize(
    ("argv", "stage_id"), [([], "pack"), (["--seed", "0"], "pack@0"), (["--method", "a"], "pack@a")]
)
def test_stage_id_is_dvcs(checkout: Path, argv: list[str], stage_id: str) -> None:
    assert execute("pack", lambda ctx: None, argv) == 0
    assert Workspace(checkout).run_record(stage_id).is_file()


def test_user_error_is_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(ctx: Context) -> None:
        raise DataError("photos/: empty folder")

    assert execute("download", run, []) == 2
    assert capsys.readouterr().err == "discern: ERROR photos/: empty folder\n"
    assert not Workspace(checkout).run_record("download").exists()


def test_wrong_params_are_one_line(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(text.replace("copies: 4", "copies: 0", 1))
    assert execute("pack", lambda ctx: None, []) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "synthesize_pairs.copies = 0" in line


def test_bug_keeps_its_traceback(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(ctx: Context) -> None:
        raise ZeroDivisionError("a bug")

    assert execute("pack", run, []) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "ZeroDivisionError: a bug" in told


def test_signal_outside_a_loop_stops_at_once(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(ctx: Context) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("went on")

    assert execute("pack", run, []) == InterruptedStageError.exit_code == 130
    assert capsys.readouterr().err == "discern: stopped; checkpoint saved; run `dvc repro` to go on\n"
    assert not Workspace(checkout).run_record("pack").exists()


@pytest.mark.parametrize("swallowed", [Exception, BaseException])
def test_signal_within_a_library_is_not_lost(checkout: Path, swallowed: type[BaseException]) -> None:
    record = Workspace(checkout).run_record("pack")

    def run(ctx: Context) -> None:
        with suppress(swallowed):
            signal.raise_signal(signal.SIGINT)
        ctx.record.metrics({"seen": 1.0})

    assert execute("pack", run, []) == 130
    assert not record.exists()


def test_signal_in_a_loop_lets_the_step_end(checkout: Path) -> None:
    steps: list[int] = []

    def run(ctx: Context) -> None:
        with signals.deferred():
            for step in range(10):
                if step == 4:
                    signal.raise_signal(signal.SIGINT)
                steps.append(step)
                if signals.stop_requested():
                    signals.check()

    assert execute("pack", run, []) == 130
    assert steps == [0, 1, 2, 3, 4]


def test_deferred_signal_that_nobody_answers_stops_at_the_end(checkout: Path) -> None:
    def run(ctx: Context) -> None:
        with signals.deferred():
            signal.raise_signal(signal.SIGTERM)
        raise AssertionError("went on")

    assert execute("pack", run, []) == 130


def test_second_signal_does_not_wait(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(ctx: Context) -> None:
        with signals.deferred():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("went on")

    assert execute("pack", run, []) == 130
    assert "stopped at once" in capsys.readouterr().err


def test_processes_end_as_dvc_sees_them(checkout: Path) -> None:
    """The same through a real process: threads are set before the stage imports anything, SIGTERM gives 130."""
    script = checkout / "toy.py"
    script.write_text(
        "import os, sys, time\n"
        "def run(ctx):\n"
        "    print(os.environ['OMP_NUM_THREADS'], os.environ['DVC_NO_ANALYTICS'], flush=True)\n"
        "    time.sleep(60)\n"
        "import discern.stages, discern.stages.pack\n"
        "discern.stages.pack.run = run\n"
        "from discern.run.__main__ import main\n"
        "sys.exit(main(['pack']))\n"
    )
    env = {**os.environ, "DISCERN_THREADS": "3", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, str(script)], stdout=pipe, stderr=pipe, text=True, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == "3 1\n"
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "discern: stopped; checkpoint saved; run `dvc repro` to go on\n"
    assert time.monotonic() - started < 10
