"""Where a run comes from: code, parameters, data version, machine and libraries.

Nothing heavy is imported here: versions come from package metadata, and torch is asked for its device only
where the stage has imported it already.
"""

import hashlib
import os
import platform
import re
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

import psutil

LIBRARIES = (
    "discern", "dvc", "great-expectations", "lightly", "mlflow", "numpy", "pandas", "pillow", "prefect",
    "scikit-learn", "scipy", "torch", "torchvision",
)  # fmt: skip

# What the pipeline itself writes: a commit is not dirty because a stage before this one did its work. And
# parameters, which every run and every registered version keep: an experiment is a commit and its parameters.
_RECORDED = ("params.yaml", "methods/*.yaml", "dvc.lock", "metrics", "plots", "reports")


def pipeline_id(setting: str | None) -> str:
    """One id for all stages of one invocation.

    Args:
        setting: the id that the Prefect flow handed down; otherwise the nearest ancestor process that is
            `dvc` names the invocation, and without one this process does.
    """
    if setting:
        return setting
    ancestor = dvc_process() or psutil.Process()
    return f"{socket.gethostname()}-{ancestor.pid}-{int(ancestor.create_time())}"


def dvc_process() -> psutil.Process | None:
    """The nearest ancestor of this process that is `dvc`."""
    return next((process for process in psutil.Process().parents() if is_dvc(process)), None)


def is_dvc(process: psutil.Process) -> bool:
    """Whether a process is the command `dvc`; False where it cannot be looked at."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return any(Path(word).name in {"dvc", "dvc.exe"} for word in words[:3])


def pipeline_name(origin: dict[str, str]) -> str:
    """What an invocation is called: its DVC experiment, else branch and commit.

    Args:
        origin: tags of `git_state` and `dvc_state`.
    """
    if name := origin.get("dvc.exp_name"):
        return name
    return "@".join(filter(None, [origin.get("git.branch", "pipeline"), origin.get("git.commit", "")[:7]]))


def git_state(root: Path) -> dict[str, str]:
    """git.commit, git.branch and git.dirty of a checkout; empty where there is none.

    Outputs of the pipeline that Git tracks (dvc.lock, metrics) do not make a commit dirty, nor do params.yaml
    and methods/*.yaml, which a DVC experiment changes and every run records.
    """
    commit = _git(root, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git(root, "status", "--porcelain", "--", ".", *(f":!{path}" for path in _RECORDED))
    return {
        "git.commit": commit,
        "git.branch": _git(root, "rev-parse", "--abbrev-ref", "HEAD") or "",
        "git.dirty": str(bool(changes)).lower(),
    }


def dvc_state(root: Path) -> dict[str, str]:
    """Stage and experiment as DVC tells its commands, and the version of the pipeline's lock file."""
    tags = {
        "dvc.stage": os.environ.get("DVC_STAGE"),
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME"),
        "dvc.baseline_rev": os.environ.get("DVC_EXP_BASELINE_REV"),
    }
    lock = root / "dvc.lock"
    if lock.is_file():
        tags["dvc.lock.md5"] = hashlib.md5(lock.read_bytes(), usedforsecurity=False).hexdigest()
    return {key: value for key, value in tags.items() if value}


def params_sha256(path: Path) -> str | None:
    """Checksum of the parameter file, None where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def library_versions() -> dict[str, str]:
    """Installed versions of what results depend on, and Python's own."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_name() -> str:
    """The accelerator that this process used, else the processor."""
    torch = sys.modules.get("torch")
    # is_initialized: a stage that stayed on the CPU of a machine with a GPU did not use the GPU.
    if torch is not None and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    return processor()


def processor() -> str:
    """The processor's name, as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file() and (match := re.search(r"model name\s*: (.+)", cpuinfo.read_text(encoding="utf-8"))):
        return match[1]
    return platform.processor() or platform.machine()


def redacted(text: str, uri: str) -> str:
    """A message on one line, without the password that stands in a tracking URI."""
    password = urlsplit(uri).password
    line = " ".join(text.split())
    return line.replace(password, "***") if password else line


def _git(root: Path, *args: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None
