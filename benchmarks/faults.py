"""Every fault on every stage of a tiny project, and how long `dvc repro` then takes to the undisturbed result.

Needs root (for a file system small enough to be filled) and Debian's package faketime. Goes on where it stopped.

    python -m benchmarks.faults --out benchmarks/results/faults-MACHINE-DATE
"""

import hashlib
import json
import re
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from benchmarks.disturbances import FAULTS, Scene, TooLateError, share
from benchmarks.setting import provenance, publish
from tests.pipeline.conftest import commit, make_project, run_in

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".discern" / "benchmarks" / "faults"
# Long enough to be stopped in the middle of training.
CHANGES = {"pretrain_decoder.passes": 60, "train_encoder.passes": 40}
STAGES = (
    "download", "validate", "pack", "pretrain_decoder@0", "score_features@0", "synthesize_pairs@0",
    "train_encoder@0", "train_continue@0", "train_method@simclr-0", "evaluate@discern-0",
    "evaluate@continue-0", "evaluate_method@simclr-0", "report",
)  # fmt: skip
# Records and the page hold times and run ids; nothing depends on them.
VOLATILE = re.compile(r"reports/(runs/|report\.html)")
SIZE = "600m"


@dataclass(frozen=True)
class Cell:
    """What one fault did to one stage.

    Attributes:
        fault: its name.
        stage: DVC's name.
        share: when it came, of the stage's time.
        code: exit code of the command that it befell.
        stopped: seconds from the fault to that command's end.
        said: the last line of ours that it printed.
        healed: seconds of the `dvc repro` afterwards.
        ran: that `dvc repro` had to run the stage.
        same: dvc.lock and every output are those of an undisturbed run.
    """

    fault: str
    stage: str
    share: float
    code: int
    stopped: float
    said: str
    healed: float
    ran: bool
    same: bool


def read_lock(root: Path) -> dict[str, Any]:
    """Stages of dvc.lock."""
    lock: dict[str, Any] = YAML(typ="safe", pure=True).load((root / "dvc.lock").read_text(encoding="utf-8"))
    return lock


def results(root: Path) -> dict[str, Any]:
    """What dvc.lock says of every stage, and the checksum of every output as it lies there."""
    stages = read_lock(root)["stages"]
    outs = {out["path"] for stage in stages.values() for out in stage["outs"] if not VOLATILE.match(out["path"])}
    for stage in stages.values():
        stage["outs"] = [out for out in stage["outs"] if out["path"] in outs]
    files = [f for o in sorted(outs) for f in ([root / o] if (root / o).is_file() else (root / o).rglob("*"))]
    sums = {
        f.relative_to(root).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()
    }
    return {"lock": stages, "files": sums}


def forget(root: Path, stage: str) -> None:
    """Make DVC forget that a stage ever ran."""
    lock = read_lock(root)
    for out in lock["stages"].pop(stage)["outs"]:
        path = root / out["path"]
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    with (root / "dvc.lock").open("w", encoding="utf-8") as file:
        YAML().dump(lock, file)
    shutil.rmtree(root / ".dvc" / "cache" / "runs", ignore_errors=True)


def undisturbed(root: Path, stage: str) -> tuple[float, float]:
    """Seconds of a stage's own process, and of the `dvc repro` that runs it and looks at all others."""
    forget(root, stage)
    scene = Scene(root, stage, 0.0, 0.0, WORK / "log")
    process = scene.start("dvc", "repro")
    began = time.perf_counter()
    scene.wait(process)
    appeared = time.perf_counter()
    own = appeared
    while process.poll() is None:
        if scene.is_running(process):
            own = time.perf_counter()
        time.sleep(0.02)
    assert process.returncode == 0
    return own - appeared, time.perf_counter() - began


def disturb(root: Path, stage: str, fault: str, seconds: float, expected: dict[str, Any]) -> Cell:
    """One fault on one stage, and the way back."""
    when = share(fault, stage)
    while True:
        if fault != "cache rotten":
            forget(root, stage)
        log = WORK / "log"
        log.write_text("")
        scene = Scene(root, stage, seconds, when, log)
        try:
            with FAULTS[fault](scene) as process:
                began = time.perf_counter()
                code = process.wait(300)
                stopped = time.perf_counter() - began
            break
        except TooLateError:  # other work made it start late; the state is that of an undisturbed run
            when *= 0.7
            run_in(root, "dvc", "repro")
    said = [
        line.replace(f"{root}/", "")
        for line in log.read_text(errors="replace").splitlines()
        if line.startswith(("discern: ", "ERROR: "))
    ]
    began = time.perf_counter()
    healed = run_in(root, "dvc", "repro")
    if fault == "MLflow stopped":
        run_in(root, "discern", "sync")
        assert not list((root / ".discern" / "spool").glob("*")), "a record still waits"
    seconds = time.perf_counter() - began
    ran = f"Running stage '{stage}'" in healed.stdout
    return Cell(
        fault, stage, round(when, 2), code, round(stopped, 1), said[-1] if said else "", round(seconds, 1), ran,
        results(root) == expected,
    )  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """The matrix as Markdown, and what each fault looked like."""
    cells, machine = [Cell(**cell) for cell in result["cells"]], result["machine"]
    of = {(cell.stage, cell.fault): cell for cell in cells}
    lines = [
        f"`{result['command']}`, {machine['cores']} cores of {machine['cpu']}, {result['date']}, commit"
        f" {result['commit']}. Seconds of the `dvc repro` after each fault; one that gave another result than the"
        " undisturbed run would say so.",
        "",
        "| stage | undisturbed | " + " | ".join(FAULTS) + " |",
        "| --- |" + " ---: |" * (1 + len(FAULTS)),
    ]
    for stage, seconds in result["undisturbed"].items():
        row = [of.get((stage, fault)) for fault in FAULTS]
        shown = ["–" if c is None else f"{c.healed:.0f}" if c.same else f"{c.healed:.0f} **differs**" for c in row]
        lines.append(f"| {stage} | {seconds:.0f} | " + " | ".join(shown) + " |")
    lines += ["", "| fault | it ended | within | stage run again by |", "| --- | --- | ---: | --- |"]
    for fault in FAULTS:
        hit = [cell for cell in cells if cell.fault == fault]
        if hit:
            codes = ", ".join(str(code) for code in sorted({cell.code for cell in hit}))
            again = f"{sum(cell.ran for cell in hit)} of {len(hit)} repairs"
            lines.append(f"| {fault} | exit code {codes} | {max(cell.stopped for cell in hit):.0f} s | {again} |")
    runs = ", ".join(f"{count} {status}" for status, count in result["runs"].items())
    return "\n".join(
        [*lines, "", f"MLflow runs afterwards: {runs}. Records that still wait: {result['waiting']}.", ""]
    )


def mlflow_runs(root: Path) -> dict[str, int]:
    """How many runs of each status MLflow has."""
    code = (
        "import collections, json, mlflow; mlflow.set_tracking_uri('sqlite:///mlflow.db');"
        " found = mlflow.search_runs(search_all_experiments=True, max_results=50_000)['status'];"
        " print(json.dumps(collections.Counter(found)))"
    )
    counts: dict[str, int] = json.loads(run_in(root, "python", "-c", code).stdout.splitlines()[-1])
    return dict(sorted(counts.items()))


def prepare(root: Path) -> None:
    """A finished project on a file system of its own."""
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "disk").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", WORK / "disk"], check=True)
    make_project(root, CHANGES)
    run_in(root, "dvc", "repro")
    commit(root, "results")


def main(
    stages: Annotated[str, typer.Option(help="separated by commas; default all")] = "",
    faults: Annotated[str, typer.Option(help="separated by commas; default all")] = "",
    out: Annotated[Path | None, typer.Option(help="write OUT.md and OUT.json")] = None,
) -> None:
    """Run the matrix, resumably, and write the table."""
    root, state = WORK / "disk" / "project", WORK / "cells.json"
    if not root.is_dir() or not state.is_file():
        subprocess.run(["umount", WORK / "disk"], check=False, capture_output=True)
        prepare(root)
        state.write_text(json.dumps({"undisturbed": {}, "own": {}, "cells": [], "expected": results(root)}))
    run_in(root, "dvc", "repro")  # stopped here, it left a stage undone
    found = json.loads(state.read_text())
    done = {(cell["stage"], cell["fault"]) for cell in found["cells"]}
    for stage in stages.split(",") if stages else STAGES:
        if stage not in found["own"]:
            found["own"][stage], found["undisturbed"][stage] = undisturbed(root, stage)
        for fault in faults.split(",") if faults else FAULTS:
            if (stage, fault) not in done:
                cell = disturb(root, stage, fault, found["own"][stage], found["expected"])
                found["cells"].append(asdict(cell))
                print(cell, flush=True)
                state.write_text(json.dumps(found))
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    run_in(root, "discern", "sync")
    waiting = len(list((root / ".discern" / "spool").glob("*")))
    result = {
        **provenance("cpu"), "commit": revision.stdout.strip(),
        **{key: found[key] for key in ("undisturbed", "cells")}, "runs": mlflow_runs(root), "waiting": waiting,
    }  # fmt: skip
    publish(result, table(result), out)
    raise typer.Exit(0 if all(cell["same"] for cell in found["cells"]) else 1)


if __name__ == "__main__":
    typer.run(main)
