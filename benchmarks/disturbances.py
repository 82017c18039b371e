"""Faults that befall a stage while `dvc repro` runs it; `benchmarks.faults` tries every one on every stage."""

import hashlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ruamel.yaml import YAML

from tests.pipeline.conftest import environment

Process = subprocess.Popen[str]
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")  # of Debian's package faketime
CHECKPOINTS = {"DISCERN_CHECKPOINT_SECONDS": "1"}


class TooLateError(Exception):
    """The stage was through before the fault came."""


@dataclass
class Scene:
    """One stage of one project, about to be disturbed.

    Attributes:
        root: the project.
        stage: DVC's name of the stage.
        seconds: that its process runs undisturbed.
        share: when in that time the fault comes.
        log: where everything it starts prints.
        env: of everything it starts.
    """

    root: Path
    stage: str
    seconds: float
    share: float
    log: Path
    env: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str, **extra: str) -> Process:
        """A command in the project, in a session of its own, as a terminal or a flow gives it."""
        with self.log.open("a") as log:
            env = environment(self.root) | CHECKPOINTS | self.env | extra
            return subprocess.Popen(
                command, cwd=self.root, env=env, stdout=log, stderr=log, text=True, start_new_session=True
            )

    def reproduce(self, **extra: str) -> Process:
        """`dvc repro` of this stage alone."""
        return self.start(sys.executable, "-m", "dvc", "repro", "--single-item", self.stage, **extra)

    def wait(self, process: Process, share: float | None = None) -> None:
        """Return in the middle of the stage.

        Raises:
            TooLateError: it has ended already.
        """
        while not self.is_running(process):
            if process.poll() is not None:
                raise TooLateError(self.stage)
            time.sleep(0.02)
        time.sleep(self.seconds * (self.share if share is None else share))
        if not self.is_running(process):
            raise TooLateError(self.stage)

    def is_running(self, process: Process) -> bool:
        """Whether the stage's own process lives, below a command that was started."""
        module = re.sub("^evaluate_.*", "evaluate", self.stage.partition("@")[0])
        try:
            for child in psutil.Process(process.pid).children(recursive=True):
                # DVC's own stages, of a flow the one that is asked for: those above it are up to date.
                if ["discern.run", module] == child.cmdline()[2:4]:
                    return True
        except psutil.Error:
            pass
        return False

    def cached_file(self) -> Path:
        """The largest of the stage's output files in DVC's cache."""
        lock = YAML(typ="safe", pure=True).load((self.root / "dvc.lock").read_text(encoding="utf-8"))
        outs = [self.root / out["path"] for out in lock["stages"][self.stage]["outs"]]
        files = [file for out in outs for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file()]
        largest = max(files, key=lambda file: file.stat().st_size)
        digest = hashlib.md5(largest.read_bytes(), usedforsecurity=False).hexdigest()
        return self.root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]


@contextmanager
def interrupt(scene: Scene) -> Iterator[Process]:
    """Ctrl-C in the terminal."""
    with _signal(scene, signal.SIGINT) as process:
        yield process


@contextmanager
def terminate(scene: Scene) -> Iterator[Process]:
    """SIGTERM to everything, as when a flow is cancelled or a machine shuts down."""
    with _signal(scene, signal.SIGTERM) as process:
        yield process


@contextmanager
def kill(scene: Scene) -> Iterator[Process]:
    """SIGKILL to everything, as when the power fails."""
    with _signal(scene, signal.SIGKILL) as process:
        yield process


@contextmanager
def full_disk(scene: Scene) -> Iterator[Process]:
    """Not one byte left on the project's file system."""
    process = scene.reproduce()
    scene.wait(process)
    filler = scene.root / ".filler"
    with filler.open("wb") as file:
        while free := shutil.disk_usage(scene.root).free:
            with suppress(OSError):  # the stage was faster with some of it
                os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), free)
    try:
        yield process
    finally:
        filler.unlink()


@contextmanager
def no_mlflow(scene: Scene) -> Iterator[Process]:
    """MLflow's server dies while the stage reports to it."""
    port = _free_port()
    options = ["--backend-store-uri", f"sqlite:///{scene.root / 'mlflow.db'}", "--host", "127.0.0.1"]
    files = ["--serve-artifacts", "--artifacts-destination", str(scene.root / "mlartifacts")]
    command = [sys.executable, "-m", "mlflow", "server", *options, *files, "--port", str(port), "--workers", "1"]
    with _server(scene, command, f"http://127.0.0.1:{port}/health") as server:
        process = scene.reproduce(DISCERN_TRACKING_URI=f"http://127.0.0.1:{port}")
        scene.wait(process)
        os.killpg(server.pid, signal.SIGKILL)
        yield process


@contextmanager
def no_prefect(scene: Scene) -> Iterator[Process]:
    """Prefect's server dies while the flow runs the stage."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with _server(scene, command, f"{url}/health") as server:
        flow = [sys.executable, "-m", "flows.pipeline", "--target", scene.stage]
        # Prefect itself tries for five minutes, which would say nothing more in every stage.
        process = scene.start(*flow, PREFECT_API_URL=url, PREFECT_CLIENT_MAX_RETRIES="0")
        scene.wait(process)
        os.killpg(server.pid, signal.SIGKILL)
        yield process


@contextmanager
def held_lock(scene: Scene) -> Iterator[Process]:
    """A second `dvc repro` of the same stage while the first is at it."""
    first = scene.reproduce()
    scene.wait(first, share=0.0)
    yield scene.reproduce()
    assert first.wait(300) == 0


@contextmanager
def rotten_cache(scene: Scene) -> Iterator[Process]:
    """One byte of an output changes in DVC's cache, as on a failing disk; `discern doctor --deep` finds it."""
    path = scene.cached_file()
    before = path.stat()  # the time of change stays, so DVC does not look again
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(before.st_mode)
    process = scene.start("discern", "doctor", "--deep", COLUMNS="1000")
    yield process
    assert process.wait() != 0, "doctor found nothing"
    advice = re.search(rf"{re.escape(str(path))} is damaged: delete it and (.+), then", scene.log.read_text())
    assert advice, "doctor did not name the file"
    for name in (path, *advice[1].split(", ")):
        (scene.root / name).unlink()


@contextmanager
def clock_jump(scene: Scene) -> Iterator[Process]:
    """The clock is set back by a day while the stage runs."""
    offset = scene.log.with_suffix(".clock")
    offset.write_text("+0\n")
    fake = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    process = scene.reproduce(**fake, FAKETIME_DONT_FAKE_MONOTONIC="1", NO_FAKE_STAT="1")
    scene.wait(process)
    offset.write_text("-1d\n")
    yield process


FAULTS: dict[str, Callable[[Scene], AbstractContextManager[Process]]] = {
    "SIGINT": interrupt,
    "SIGTERM": terminate,
    "kill -9": kill,
    "disk full": full_disk,
    "MLflow stopped": no_mlflow,
    "Prefect stopped": no_prefect,
    "lock held": held_lock,
    "cache rotten": rotten_cache,
    "clock back": clock_jump,
}


def share(fault: str, stage: str) -> float:
    """When the fault comes, as a share of the stage's time: drawn for each pair, the same every time."""
    return random.Random(f"{fault} {stage}").uniform(0.2, 0.9)  # noqa: S311  # a draw to repeat, not a secret


@contextmanager
def _signal(scene: Scene, number: signal.Signals) -> Iterator[Process]:
    process = scene.reproduce()
    scene.wait(process)
    os.killpg(process.pid, number)
    yield process


@contextmanager
def _server(scene: Scene, command: list[str], health: str) -> Iterator[Process]:
    server = scene.start(*command)
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(health, timeout=2):  # noqa: S310  # our own server
                    break
            except OSError:
                assert server.poll() is None, f"{command} ended"
                time.sleep(0.2)
        yield server
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
