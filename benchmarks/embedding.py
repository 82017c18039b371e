"""Images per second of `discern embed`, timm + ImageFolder + DataLoader and the network alone, side by side.

Every contestant lives in a process of its own and embeds the same JPEGs; they take turns, round by round, and
nobody else computes meanwhile. Start one measurement at a time.

    python -m benchmarks.embedding --network tf_efficientnet_lite0 --size 128 --batch 64
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.setting import photograph, provenance, publish
from benchmarks.turns import Answer, Contestant, take_turns

OURS, ALONE, FOLDED, LOADER = (
    "discern embed",
    "the network alone",
    "the network alone, folded",
    "timm + ImageFolder",
)
ALONE_BATCHES = 4  # ready batches that the network alone computes in turn
Setting = dict[str, Any]


def ours(s: Setting) -> Callable[[], int]:
    """All that the command does once the encoder is loaded: listing, decoding, features, parquet."""
    from discern.machine import claim

    claim()  # before torch is imported
    from discern.embedding.files import write_features
    from discern.embedding.photos import PhotoEncoder
    from discern.embedding.reading import names_in
    from discern.models.build import build_encoder
    from discern.models.making import Making
    from discern.params.encoder import Timm

    network = build_encoder(Timm(kind="timm", name=s["network"]), seed=0)
    encoder, folder = PhotoEncoder(network, Making(s["size"])), Path(s["photos"])
    parts = encoder.parts
    encoder.parts = lambda photos, chunk=s["batch"]: parts(photos, chunk)  # type: ignore[method-assign]
    out = Path(s["scratch"]) / "features.parquet"
    return lambda: write_features(encoder, names_in(folder), folder, out, print).count


def alone(s: Setting, folded: bool) -> Callable[[], int]:
    """Batches that are ready in memory through the network, with our settings of threads and memory.

    Args:
        s: sizes.
        folded: as ours computes it (batch normalisation in the convolutions, channels last); else timm's own.
    """
    from discern.machine import claim

    claim()  # before torch is imported
    import timm
    import torch

    network: Any = timm.create_model(s["network"], num_classes=0).eval()
    batches = [torch.randn(s["batch"], 3, s["size"], s["size"]) for _ in range(ALONE_BATCHES)]
    if folded:
        from discern.models.build import build_encoder
        from discern.models.folding import folded as fold
        from discern.params.encoder import Timm

        network = fold(build_encoder(Timm(kind="timm", name=s["network"]), seed=0).eval(), s["size"])
        batches = [batch.contiguous(memory_format=torch.channels_last) for batch in batches]
    turns = max(1, s["images"] // s["batch"])

    def run() -> int:
        with torch.inference_mode():
            for turn in range(turns):
                network(batches[turn % ALONE_BATCHES])
        return int(turns * s["batch"])

    return run


def loader(s: Setting) -> Callable[[], int]:
    """A network of timm behind torchvision's ImageFolder and torch's DataLoader, as their documentation shows."""
    if s["tuned"]:
        from discern.machine import claim

        claim()
    import timm
    import torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    network: Any = timm.create_model(s["network"], num_classes=0).eval()
    transform = transforms.Compose(
        [transforms.Resize(s["size"]), transforms.CenterCrop(s["size"]), transforms.ToTensor(),
         transforms.Normalize(network.default_cfg["mean"], network.default_cfg["std"])]
    )  # fmt: skip
    dataset = ImageFolder(s["photos"], transform=transform)
    batches = torch.utils.data.DataLoader(dataset, batch_size=s["batch"], num_workers=s["workers"])

    def run() -> int:
        with torch.no_grad():
            return len(np.concatenate([network(images).numpy() for images, _ in batches]))

    return run


def build(name: str, s: Setting) -> Callable[[], int]:
    """A contestant's turn; it gives the number of photographs embedded."""
    if name == OURS:
        return ours(s)
    return loader(s) if name.startswith(LOADER) else alone(s, folded=name == FOLDED)


def serve(name: str, s: Setting) -> None:
    """Take a turn for every line of standard input, until it closes."""
    from benchmarks.contestants import cpu_seconds

    run = build(name, s)
    for _ in sys.stdin:
        began, before = time.perf_counter(), cpu_seconds()
        count = run()
        seconds, cpu = time.perf_counter() - began, cpu_seconds() - before
        sys.stdout.write(json.dumps({"images": count, "seconds": seconds, "cpu_seconds": cpu}) + "\n")
        sys.stdout.flush()


def draw(folder: Path, count: int) -> None:
    """JPEGs of 500x375 pixels, in two classes, since ImageFolder wants some."""
    rng = np.random.default_rng(0)
    for number in range(count):
        (folder / str(number % 2)).mkdir(parents=True, exist_ok=True)
        photograph(rng, 500, 375).save(folder / str(number % 2) / f"{number:06}.jpg", quality=90)


def main(
    network: str = "tf_efficientnet_lite0",
    size: int = 128,
    batch: int = 64,
    images: int = 384,
    rounds: int = 5,
    workers: Annotated[str, typer.Option(help="loader processes that ImageFolder may choose from")] = "0,1,2,4",
    tuned: Annotated[bool, typer.Option("--tuned", help="ImageFolder gets our threads and memory too")] = False,
    only: Annotated[str, typer.Option(help="parts of contestants' names, with commas; ours always runs")] = "",
    photos: Annotated[Path | None, typer.Option(help="folder of photographs in folders; default: drawn")] = None,
    out: Annotated[Path | None, typer.Option(help="results file; default: printed only")] = None,
    one: Annotated[str, typer.Option(hidden=True)] = "",
    setting: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Measure and print a table; with --out also write it, and the figures as JSON beside it."""
    if one:
        serve(one, json.loads(setting))
        os._exit(0)  # threads and loader processes have nothing to save
    with tempfile.TemporaryDirectory(prefix="discern-embedding-") as scratch:
        folder = photos or Path(scratch) / "photos"
        if photos is None:
            draw(folder, images)
        sizes: Setting = {"network": network, "size": size, "batch": batch, "images": images, "tuned": tuned}
        where = {**sizes, "photos": str(folder), "scratch": scratch}
        choices = [(f"{LOADER}, {n} workers", {**where, "workers": int(n)}) for n in workers.split(",")]
        everyone = [*((name, where) for name in (OURS, ALONE, FOLDED)), *choices]
        wanted = [one for one in everyone if one[0] == OURS or any(part in one[0] for part in only.split(","))]
        command = ["-m", "benchmarks.embedding", "--one"]
        contestants = [Contestant(name, [*command, name, "--setting", json.dumps(s)]) for name, s in wanted]
        try:
            for contestant in contestants:
                contestant.ask()  # to warm up
            answers = take_turns(contestants, rounds, Contestant.ask)
        finally:
            for contestant in contestants:
                contestant.close()
    result = {**provenance("cpu"), "setting": sizes, "rounds": answers}
    publish(result, table(result), out)


def table(result: dict[str, Any]) -> str:
    """The result as Markdown: medians over rounds, and ratios with their spread over rounds."""
    answers: dict[str, list[Answer]] = result["rounds"]
    speeds = {name: [a["images"] / a["seconds"] for a in turns] for name, turns in answers.items()}
    head = ["contestant", "images/s", "CPU ms / image", f"{OURS} is"]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    loaders = {name: statistics.median(speed) for name, speed in speeds.items() if name.startswith(LOADER)}
    best = max(loaders, key=lambda name: loaders[name], default="")
    for name, turns in answers.items():
        cpu = statistics.median(1000 * a["cpu_seconds"] / a["images"] for a in turns)
        ratios = sorted(mine / theirs for mine, theirs in zip(speeds[OURS], speeds[name], strict=True))
        cells = [f"{name} (its best)" if name == best else name, f"{statistics.median(speeds[name]):.3g}"]
        cells += [f"{cpu:.1f}", f"{statistics.median(ratios):.2f} x ({ratios[0]:.2f}–{ratios[-1]:.2f})"]
        lines.append(f"| {' | '.join(cells)} |")
    about = {**result["setting"], **result["machine"]}
    lines += ["", f"{result['date']}, `{result['command']}`", "", ", ".join(f"{k} {v}" for k, v in about.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
