"""How the cost of our training grows: with image size, batch, width, queue, and with the size of the data set.

One setting is changed at a time around a middle one. Every point is a process of its own, one after the other.

    python -m benchmarks.scaling --device cpu --out benchmarks/results/scaling-MACHINE-DATE
"""

import statistics
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.setting import Setting, draw, provenance, publish
from benchmarks.throughput import Trainer
from benchmarks.turns import Answer
from discern.data.packing import row_writer

ROUNDS = 3


def point(name: str, setting: Setting, steps: int) -> dict[str, float]:
    """Median cost of a contestant at one setting."""
    contestant = Trainer(name, setting)
    try:
        contestant.run(2)
        answers: list[Answer] = [contestant.run(steps) for _ in range(ROUNDS)]
    finally:
        contestant.close()
    speeds = [setting.batch * a["steps"] / a["seconds"] for a in answers]
    found = {"images_per_s": statistics.median(speeds), "slowest": min(speeds), "fastest": max(speeds)}
    for key in ("memory_gb", "own_memory_gb", "gpu_memory_gb"):
        found[key] = max(a[key] for a in answers)
    print(f"{name} {asdict(setting)}: {found}", file=sys.stderr, flush=True)
    return found


def packed_only(setting: Setting) -> None:
    """A packed data set of one image of random pixels: for sizes that nobody wants to draw."""
    shape = (setting.images, setting.source, setting.source, 3)
    image = np.random.default_rng(0).integers(0, 256, shape[1:], dtype=np.uint8)
    with row_writer(Path(setting.data) / "images.npy", np.uint8, shape) as write:
        for number in range(setting.images):
            write(number, image)


def main(
    device: str = "cpu",
    network: str = "resnet18",
    size: int = 96,
    batch: int = 64,
    steps: Annotated[int, typer.Option(help="in each of three turns")] = 8,
    images: Annotated[
        str, typer.Option(help="sizes of the data set, at 64 px and read from disk")
    ] = "10000,200000",
    sizes: str = "64,96,128,160",
    batches: str = "32,64,128",
    widths: str = "32,64",
    queues: str = "1024,8192,65536",
    out: Annotated[Path | None, typer.Option(help="results file; default: printed only")] = None,
) -> None:
    """Measure every axis and print a table; with --out also write it, and the figures as JSON beside it."""
    rows: list[dict[str, Any]] = []

    def numbers(text: str) -> list[int]:
        return [int(number) for number in text.split(",") if number]

    with tempfile.TemporaryDirectory(prefix="discern-scaling-") as folder:
        middle = Setting(device, network, size, batch, 512, 0, folder)
        axes = [
            *[("image size", n, "discern simclr", replace(middle, size=n)) for n in numbers(sizes)],
            *[("batch", n, "discern simclr", replace(middle, batch=n)) for n in numbers(batches)],
            *[("width", n, "discern simclr", replace(middle, width=n)) for n in numbers(widths)],
            *[("queue", n, "discern moco", replace(middle, queue=n)) for n in numbers(queues)],
        ]
        for axis, value, name, setting in axes:
            draw(setting)
            rows.append({"axis": axis, "value": value, **point(name, setting, steps)})
        for count in numbers(images):
            setting = replace(middle, size=56, images=count, resident=False)  # 64 px in the file
            packed_only(setting)
            rows.append({"axis": "images, from disk", "value": count, **point("discern simclr", setting, steps)})
    result = {
        **provenance(device),
        "setting": {
            k: v for k, v in asdict(middle).items() if k in ("device", "network", "size", "batch", "width")
        },
        "rows": rows,
    }
    publish(result, table(result), out)


def table(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        "| axis | value | images/s | slowest–fastest | memory GB | of it its own |",
        "| --- " + "| ---: " * 5 + "|",
    ]
    for row in result["rows"]:
        spread = f"{row['slowest']:.0f}–{row['fastest']:.0f}"
        memory = f"{row['memory_gb']:.2f} | {row['own_memory_gb']:.2f}"
        lines.append(f"| {row['axis']} | {row['value']} | {row['images_per_s']:.0f} | {spread} | {memory} |")
    about = ", ".join(f"{k} {v}" for k, v in {**result["setting"], **result["machine"]}.items())
    lines += ["", f"{result['date']}, `{result['command']}`", "", about]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
