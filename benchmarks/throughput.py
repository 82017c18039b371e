"""Images per second of training: discern, lightly, and what computing alone costs, side by side.

Every contestant lives in a process of its own; they take turns, round by round, and nobody else computes
meanwhile. Start one measurement at a time.

    python -m benchmarks.throughput --device cpu --network resnet18 --size 96 --batch 64
"""

import json
import statistics
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.contestants import CONTESTANTS
from benchmarks.setting import Setting, draw, provenance, publish
from benchmarks.turns import Answer, Contestant, take_turns

CUB_IMAGES, CUB_EPOCHS = 6_000, 100  # the training set of CUB-200-2011, and the published number of epochs


class Trainer(Contestant):
    """A contestant that trains.

    Args:
        name: key of CONTESTANTS.
        setting: sizes.
    """

    def __init__(self, name: str, setting: Setting) -> None:
        super().__init__(name, ["-m", "benchmarks.contestants", name, json.dumps(asdict(setting))])
        self.setting = setting

    def run(self, steps: int) -> Answer:
        """What `steps` steps cost."""
        return self.ask(steps)


def measure(contestants: list[Trainer], rounds: int, seconds: float) -> dict[str, list[Answer]]:
    """Rounds of turns of about `seconds` each, in a new order every round, after a short turn to warm up."""
    steps = {}
    for contestant in contestants:
        contestant.run(2)
        trial = contestant.run(3)
        steps[contestant.name] = max(3, round(seconds / (trial["seconds"] / trial["steps"])))
    return take_turns(contestants, rounds, lambda contestant: contestant.run(steps[contestant.name]))


def fastest_workers(name: str, setting: Setting, choices: list[int]) -> int:
    """The number of loader processes that one of lightly's contestants is fastest with here."""
    speeds = {}
    for workers in choices:
        contestant = Trainer(name, replace(setting, workers=workers))
        contestant.run(2)
        answer = contestant.run(6)
        contestant.close()
        speeds[workers] = setting.batch * answer["steps"] / answer["seconds"]
    told = ", ".join(f"{workers} workers {speed:.0f} images/s" for workers, speed in speeds.items())
    print(f"{name}: {told}", file=sys.stderr, flush=True)
    return max(speeds, key=lambda workers: speeds[workers])


def main(
    device: str = "cpu",
    network: str = "resnet18",
    size: int = 96,
    batch: int = 64,
    images: int = 1024,
    rounds: int = 5,
    seconds: Annotated[float, typer.Option(help="of a contestant's turn")] = 10.0,
    workers: Annotated[str, typer.Option(help="loader processes lightly may choose from")] = "0,1,2",
    compile_: Annotated[str, typer.Option("--compile", help="DISCERN_COMPILE of our contestants")] = "none",
    only: Annotated[str, typer.Option(help="part of a contestant's name; several with commas")] = "",
    out: Annotated[Path | None, typer.Option(help="results file; default: printed only")] = None,
) -> None:
    """Measure and print a table; with --out also write it, and the figures as JSON beside it."""
    wanted = [name for name in CONTESTANTS if any(part in name for part in only.split(","))]
    with tempfile.TemporaryDirectory(prefix="discern-throughput-") as folder:
        setting = Setting(device, network, size, batch, images, 0, folder, compile_)
        draw(setting)
        contestants: list[Trainer] = []
        try:
            for name in wanted:
                choices = [int(choice) for choice in workers.split(",")] if name.startswith("lightly") else [0]
                chosen = fastest_workers(name, setting, choices) if len(choices) > 1 else choices[0]
                contestants.append(Trainer(name, replace(setting, workers=chosen)))
            answers = measure(contestants, rounds, seconds)
        finally:
            for contestant in contestants:
                contestant.close()
    chosen_workers = {c.name: c.setting.workers for c in contestants if c.name.startswith("lightly")}
    result = {
        **provenance(device),
        "setting": {key: value for key, value in asdict(setting).items() if key not in ("data", "workers")},
        "workers": chosen_workers,
        "rounds": answers,
    }
    publish(result, table(result), out)


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: medians over rounds, and ratios with their spread over rounds."""
    answers: dict[str, list[Answer]] = result["rounds"]
    batch = result["setting"]["batch"]
    speeds = {name: [batch * a["steps"] / a["seconds"] for a in turns] for name, turns in answers.items()}
    reference = next(iter(speeds))
    on_gpu = result["setting"]["device"] == "cuda"
    head = ["contestant", "images/s", "CPU s / 1,000 images", "memory GB", *["GPU GB"] * on_gpu]
    head += [f"{CUB_IMAGES:,} images x {CUB_EPOCHS} epochs", f"{reference} is"]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for name, turns in answers.items():
        cpu = statistics.median(1000 * a["cpu_seconds"] / (batch * a["steps"]) for a in turns)
        memory = max(a["memory_gb"] for a in turns)
        ratios = sorted(ours / theirs for ours, theirs in zip(speeds[reference], speeds[name], strict=True))
        cells = [name, f"{statistics.median(speeds[name]):.3g}", f"{cpu:.1f}", f"{memory:.2f}"]
        if on_gpu:
            cells.append(f"{max(a['gpu_memory_gb'] for a in turns):.2f}")
        minutes = CUB_IMAGES * CUB_EPOCHS / statistics.median(speeds[name]) / 60
        cells.append(f"{minutes:.0f} min")
        cells.append(f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f}–{ratios[-1]:.2f})")
        lines.append(f"| {' | '.join(cells)} |")
    about = {**result["setting"], **result["machine"]}
    lines += ["", f"{result['date']}, `{result['command']}`", "", ", ".join(f"{k} {v}" for k, v in about.items())]
    if result["workers"]:
        lines.append(f"\nLoader processes (the fastest of those tried): {result['workers']}.")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
