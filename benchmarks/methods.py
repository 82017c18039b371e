"""Every method that methods/ describes, trained and evaluated at the demo's size, with intervals.

The pipeline runs in a clone of its own, under .discern/benchmarks, so that this checkout is not disturbed. Stopped
in any way, the same command goes on where it was, with the code of the last commit: DVC decides what it changes.

    python -m benchmarks.methods plumage --seeds 0,1 --out benchmarks/results/methods-plumage-MACHINE-DATE
    python -m benchmarks.methods coffee-leaf --photos FOLDER --licence MIT --resize squash --out …
"""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from benchmarks.setting import provenance, publish
from discern.dvcfiles.read import mapping
from discern.errors import ParamsError
from discern.machine import allowed_threads
from discern.params.load import load
from discern.params.pipeline import Params
from discern.report.summary import Summary, read_summary
from discern.report.table import markdown

ROOT = Path(__file__).parents[1]


def clone(folder: Path, fresh: bool) -> None:
    """This checkout's last commit, in a folder of its own that keeps its results."""
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        # Its cache keeps nothing that the checkout has: a benchmark must really run.
        shutil.rmtree(folder / "metrics")
    for command in (
        ["fetch", "--quiet", "origin", "HEAD"],
        ["restore", "--source", "FETCH_HEAD", "--staged", "--worktree", "--", "src", "methods", "dvc.yaml"],
        ["reset", "--quiet", "--soft", "FETCH_HEAD"],
    ):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


def describe(folder: Path, seeds: list[int], changes: dict[str, Any]) -> Params:
    """Write params.yaml of the clone: every method that needs no download, and the changes (dotted keys)."""
    yaml = YAML()
    yaml.width = 10_000
    tree = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    changes = {
        "methods.seeds": seeds,
        "methods.controls": list(tree["train_control"]),
        "methods.compared": [name for name in described() if name not in needs_the_web()],
        **changes,
    }
    for key, value in changes.items():
        *parents, last = key.split(".")
        node = tree
        for name in parents:
            node = node[name]
        if last not in node and parents != []:
            raise ParamsError(f"{key} is not in params.yaml")
        node[last] = value
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)
    return load(folder / "params.yaml")


def described() -> dict[str, dict[str, Any]]:
    """The parameters of every method."""
    return {
        path.stem: mapping(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "methods").glob("*.yaml"))
    }


def needs_the_web() -> set[str]:
    """Methods whose weights are downloaded."""
    return {name for name, params in described().items() if str(params.get("weights", "")).startswith("image")}


def run(folder: Path, params: Params, jobs: int) -> None:
    """Reproduce everything, several methods side by side with as many threads each as that leaves."""
    environment = os.environ | {
        "DISCERN_THREADS": str(max(1, allowed_threads() // jobs)),
        "DISCERN_TRACKING": os.environ.get("DISCERN_TRACKING", "false"),
        "DISCERN_PROGRESS": "none",
        "OMP_WAIT_POLICY": "PASSIVE",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / ".discern" / "dvc"),
        "PYTHONPATH": str(folder / "src"),
    }

    def reproduce(stages: list[str], *options: str) -> None:
        began = time.perf_counter()
        for stage in stages:
            # One stage at a time: two commands that look at the same upstream stage would be in each other's way.
            command = ["dvc", "--wait-for-lock", "repro", "--quiet", *options, stage]
            subprocess.run(command, cwd=folder, env=environment, check=True)
        print(f"{stages[-1]}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)

    seeds = params.methods.seeds
    ours = (
        "pretrain_decoder@{}",
        "score_features@{}",
        "synthesize_pairs@{}",
        "train_encoder@{}",
        "evaluate@discern-{}",
        "train_continue@{}",
        "evaluate@continue-{}",
    )
    rounds = [[[stage.format(seed) for stage in ours] for seed in seeds]]
    for family, methods in (("control", params.methods.controls), ("method", params.methods.compared)):
        both = (f"train_{family}", f"evaluate_{family}")
        rounds.append([[f"{stage}@{method}-{seed}" for stage in both] for method in methods for seed in seeds])
    reproduce(["pack"])
    for tasks in rounds:
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda stages: reproduce(stages, "--single-item"), tasks))
    reproduce(["report"])


def result(name: str, folder: Path, params: Params, hours: float) -> dict[str, Any]:
    """Figures with everything that they depend on."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    )
    base = params.base
    return {
        **provenance("cpu"),
        "commit": commit.stdout.strip(),
        "hours": round(hours, 2),
        "setting": {
            "dataset": name,
            "pixels": params.pack.image_size,
            "encoder": base.encoder.model_dump(),
            "batch_size": base.batch_size,
            "passes": params.pretrain_decoder.passes + params.train_encoder.passes,
        },
        "summary": read_summary(folder / "metrics" / "summary.json").model_dump(exclude_none=True),
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown, with command, seeds, machine and date."""
    summary, machine, setting = Summary.model_validate(result["summary"]), result["machine"], result["setting"]
    images = ", ".join(f"{count:,} {name}" for name, count in summary.images.items())
    seeds, encoder = ", ".join(map(str, summary.seeds)), setting["encoder"]
    head = [
        f"`{result['command']}`, {machine['cores']} cores of {machine['cpu']}, {result['date']}, commit",
        f"{result['commit']}, seeds {seeds}, {result['hours']} h.",
        f"{setting['dataset']} ({images}), {setting['pixels']} px, {encoder['kind']} of width {encoder['width']},",
        f"batch {setting['batch_size']}, {setting['passes']} encoder passes an image.",
    ]
    return "\n".join([*head, "", markdown(summary)])


def main(
    name: Annotated[str, typer.Argument(help="of the run's folder; `plumage` is drawn, others need --photos")],
    photos: Annotated[Path | None, typer.Option(help="folder of labelled photographs")] = None,
    licence: str = "",
    resize: Annotated[str, typer.Option(help="how photographs become square; default as in params.yaml")] = "",
    seeds: str = "0",
    passes: Annotated[str, typer.Option(help="of the base, and after it; default as in params.yaml")] = "",
    batch: Annotated[int, typer.Option(help="images of a step; default as in params.yaml")] = 0,
    jobs: Annotated[int, typer.Option(help="methods side by side")] = 1,
    fresh: Annotated[bool, typer.Option(help="forget what was made before")] = False,
    out: Annotated[Path | None, typer.Option(help="write OUT.md and OUT.json")] = None,
) -> None:
    """Run every method, resumably, and write the table."""
    changes: dict[str, Any] = {}
    if photos:
        changes["dataset"] = {"kind": "folder", "path": str(photos.resolve()), "licence": licence or "unknown"}
    if resize:
        changes["pack.resize"] = resize
    if passes:
        changes["pretrain_decoder.passes"], changes["train_encoder.passes"] = map(int, passes.split(","))
    if batch:
        changes["base.batch_size"] = batch
    folder = ROOT / ".discern" / "benchmarks" / name
    clone(folder, fresh)
    params = describe(folder, [int(seed) for seed in seeds.split(",")], changes)
    clock = folder / ".discern" / "seconds"
    before, began = float(clock.read_text()) if clock.exists() else 0.0, time.perf_counter()
    try:
        run(folder, params, jobs)
    finally:
        clock.parent.mkdir(exist_ok=True)
        clock.write_text(str(before + time.perf_counter() - began))
    found = result(name, folder, params, (before + time.perf_counter() - began) / 3600)
    publish(found, table(found), out)


if __name__ == "__main__":
    typer.run(main)
