"""What is left of runs that ended badly, and what would make the next one fail: `discern doctor`.

Most of it heals at the next start by itself; what does not is said with the command that mends it.
"""

import importlib.metadata
import json
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import psutil
from packaging.requirements import Requirement

from discern.dvcfiles.cache import cache_folder, rotten
from discern.errors import DiscernError, SettingsError
from discern.params.check import check as check_parameters
from discern.settings import settings
from discern.tracking import provenance
from discern.tracking.spool import waiting

State = Literal["good", "note", "bad"]
LOW_DISK = 2 * 2**30  # bytes; DVC keeps two copies of an output while it moves it into the cache
CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: what it is about.
        state: good; a note, for what heals by itself; bad, for what somebody has to mend.
        detail: what was found, and what to do.
    """

    what: str
    state: State
    detail: str


def examine(root: Path, deep: bool = False) -> list[Finding]:
    """Look at a checkout without changing anything.

    Args:
        root: the checkout.
        deep: also read every file of DVC's cache.
    """
    machine = (_parameters, _requirements, _disk, _tracking)
    remains = (_locks, _stages, _checkpoints, _records, _leftovers, _prefect)
    checks = (*machine, *remains, *((_cache,) if deep else ()))
    return [finding for check in checks for finding in check(root)]


def _parameters(root: Path) -> Iterator[Finding]:
    try:
        check_parameters(root / "params.yaml")
        settings()
    except DiscernError as error:
        yield Finding("parameters and settings", "bad", str(error))
    else:
        yield Finding("parameters and settings", "good", "params.yaml, methods/ and DISCERN_ variables are valid")


def _requirements(_root: Path) -> Iterator[Finding]:
    """Versions that are known not to work together start all the same, and fail much later."""
    wrong = []
    for text in importlib.metadata.requires("discern") or []:
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate():
            try:
                found = importlib.metadata.version(needed.name)
            except importlib.metadata.PackageNotFoundError:
                wrong.append(f"{needed.name} is missing")
            else:
                if not needed.specifier.contains(found, prereleases=True):
                    wrong.append(f"{needed.name} {found} is not {needed.specifier}")
    detail = (
        "; ".join(wrong) + "; install requirements.lock" if wrong else "every library has a version that works"
    )
    yield Finding("libraries", "bad" if wrong else "good", detail)


def _disk(root: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(root).free
    detail = f"{free / 2**30:.1f} GiB free"
    yield Finding("disk", "good" if free > LOW_DISK else "bad", detail)


def _tracking(_root: Path) -> Iterator[Finding]:
    try:
        chosen = settings()
    except SettingsError:  # told already
        return
    if not chosen.tracking:
        yield Finding("MLflow", "note", "off (DISCERN_TRACKING=false)")
        return
    address = urlsplit(chosen.resolved_tracking_uri)
    if not address.scheme.startswith("http"):
        yield Finding("MLflow", "good", f"{address.scheme} without a server")
        return
    where = (address.hostname or "", address.port or (443 if address.scheme == "https" else 80))
    try:
        socket.create_connection(where, timeout=CONNECT_SECONDS).close()
    except OSError as error:
        detail = f"{where[0]}:{where[1]} does not answer ({error}); records wait until it does"
        yield Finding("MLflow", "note", detail)
    else:
        yield Finding("MLflow", "good", f"{where[0]}:{where[1]} answers")


def _locks(root: Path) -> Iterator[Finding]:
    """DVC's own list of who uses which file; it drops dead processes by itself."""
    path = root / ".dvc" / "tmp" / "rwlock"
    try:
        locks = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        yield Finding("DVC's locks", "bad", f"{path} is damaged; delete it while no dvc runs")
        return
    entries = [e for entry in locks.values() for e in (*entry.get("read", []), entry.get("write")) if e]
    holders = {int(entry["pid"]): str(entry["cmd"]) for entry in entries}
    for pid, command in holders.items():
        alive = psutil.pid_exists(pid)
        state = (
            f"held by process {pid} ({command})" if alive else f"left by process {pid} ({command}), which is gone"
        )
        yield Finding("DVC's locks", "note", state if alive else f"{state}; the next dvc drops it")
    if not holders:
        yield Finding("DVC's locks", "good", "none held")


def _stages(root: Path) -> Iterator[Finding]:
    found = False
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if "discern.run" not in words or Path(process.cwd()) != root.resolve():
                continue
            orphan = not any(provenance.is_dvc(parent) for parent in process.parents())
            minutes = (time.time() - process.create_time()) / 60
        except psutil.Error:
            continue
        found = True
        name = " ".join(words[words.index("discern.run") + 1 :])
        detail = f"{name} runs as process {process.pid} for {minutes:.0f} min"
        yield Finding(
            "running stages", "bad" if orphan else "note",
            f"{detail}, without dvc: `kill {process.pid}` saves its checkpoint and stops it" if orphan else detail,
        )  # fmt: skip
    if not found:
        yield Finding("running stages", "good", "none")


def _checkpoints(root: Path) -> Iterator[Finding]:
    found = False
    for folder in sorted((root / ".discern" / "work").glob("*")):
        files = sorted(folder.glob("[0-9]*-*.pt"))
        if not files:
            continue
        found = True
        step, hours = int(files[-1].name.partition("-")[0]), (time.time() - files[-1].stat().st_mtime) / 3600
        stage = folder.name.rpartition("-")[0]
        size = sum(file.stat().st_size for file in files) / 2**20
        yield Finding(
            "checkpoints", "note",
            f"{stage} at step {step}, {hours:.1f} h old, {size:.0f} MiB: with the same parameters and data"
            f" `dvc repro` goes on from it; otherwise delete {folder.relative_to(root)}",
        )  # fmt: skip
    if not found:
        yield Finding("checkpoints", "good", "none: no training was interrupted")


def _records(_root: Path) -> Iterator[Finding]:
    count = sum(path.is_dir() for path in waiting().glob("*"))
    if count:
        yield Finding(
            "records for MLflow", "note", f"{count} wait; the next stage or `discern sync` delivers them"
        )
    else:
        yield Finding("records for MLflow", "good", "none wait")


def _leftovers(root: Path) -> Iterator[Finding]:
    """Half-written outputs of processes that were killed outright; the next run of the stage removes them."""
    folders = [root / name for name in ("data", "models", "metrics", "plots", "reports")]
    found = [p.relative_to(root).as_posix() for folder in folders for p in folder.rglob(".*.partial")]
    if found:
        detail = f"{', '.join(found)}: the next run of their stage removes them"
        yield Finding("half-written outputs", "note", detail)
    else:
        yield Finding("half-written outputs", "good", "none")


def _cache(root: Path) -> Iterator[Finding]:
    """DVC believes its cache: a file that has rotted there is used like a good one."""
    folder, bad = cache_folder(root), False
    for path, copies in rotten(root, folder):
        bad = True
        # An output and its copy in the cache are often one file on the disk under two names.
        also = f" and {', '.join(copies)}" if copies else ""
        detail = f"{path} is damaged: delete it{also}, then `dvc repro` makes it again, or `dvc pull` fetches it"
        yield Finding("DVC's cache", "bad", detail)
    if not bad:
        yield Finding("DVC's cache", "good", f"every file in {folder} has its checksum")


def _prefect(root: Path) -> Iterator[Finding]:
    for path in sorted((root / ".prefect").glob("*.pid")):
        text = path.read_text(encoding="utf-8").strip()
        if not (text.isdigit() and psutil.pid_exists(int(text))):
            detail = f"{path.relative_to(root)} is of a process that is gone; delete it"
            yield Finding("Prefect", "bad", detail)
