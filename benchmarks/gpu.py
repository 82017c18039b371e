"""Everything to be measured on a GPU, in parts of a few minutes each; `--device cpu` is a dry run at toy size.

python -m benchmarks.gpu ceilings --out DIR      what the chip can do: copies and bf16 matrix products
python -m benchmarks.gpu resnet50 --out DIR      224 px, batch 256: ours, lightly, compute only
python -m benchmarks.gpu resnet50-compiled --out DIR
python -m benchmarks.gpu resnet18 --out DIR      where the loader is the limit
python -m benchmarks.gpu scaling --out DIR
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import scaling, throughput
from benchmarks.setting import Setting, machine
from discern.machine import allowed_threads

PARTS = ("ceilings", "resnet50", "resnet50-compiled", "resnet18", "resnet18-compiled", "scaling")


def ceilings(device: str, out: Path) -> None:
    """Measured bandwidth and bf16 rate, and the arithmetic of a training step to compare with it."""
    import torch

    on_gpu = device == "cuda"

    def seconds(work: Callable[[], object], repeats: int) -> float:
        for _ in range(3):
            work()
        if on_gpu:
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        if on_gpu:
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / repeats

    side, length = (8192, 2**31) if on_gpu else (1024, 2**24)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.randint(0, 256, (length,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    result = {
        "machine": machine(device),
        "bf16_tflops": 2 * side**3 / seconds(lambda: a @ b, 20) / 1e12,
        "copy_gb_per_s": 2 * length / seconds(lambda: target.copy_(source), 20) / 1e9,
        "gflop_per_image": {name: flops(name, 224 if on_gpu else 64) / 1e9 for name in ("resnet18", "resnet50")},
    }
    text = json.dumps(result, indent=1) + "\n"
    (out / "ceilings.json").write_text(text)
    print(text)


def flops(network: str, size: int) -> float:
    """Floating-point operations of one image's SimCLR step (two views, forward and backward)."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.objectives import parameters
    from discern.models.build import build_encoder

    encoder = build_encoder(parameters(Setting("cpu", network, size, 4, 4, 0, "")).encoder, 0)
    with FlopCounterMode(display=False) as counter:
        encoder(torch.randn(2, 3, size, size)).sum().backward()
    return float(counter.get_total_flops())


def main(
    part: Annotated[str, typer.Argument(help=f"one of {', '.join(PARTS)}")],
    out: Annotated[Path, typer.Option(help="folder for results")],
    device: str = "cuda",
    rounds: int = 5,
    seconds: float = 4.0,
) -> None:
    """Measure one part."""
    if part not in PARTS:
        raise typer.BadParameter(f"{part!r} is none of {', '.join(PARTS)}")
    out.mkdir(parents=True, exist_ok=True)
    real = device == "cuda"
    if part == "ceilings":
        ceilings(device, out)
    elif part == "scaling":
        if real:
            scaling.main(device, "resnet50", size=224, batch=256, out=out / part)
        else:
            toy = {"images": "500", "sizes": "32", "batches": "8", "widths": "64", "queues": "256"}
            scaling.main(device, "resnet18", size=32, batch=8, steps=2, out=out / part, **toy)
    else:
        network, _, compiled = part.partition("-")
        throughput.main(
            device=device,
            network=network,
            size=224 if real else 32,
            batch=256 if real else 8,
            images=4096 if real else 64,
            rounds=rounds if real else 1,
            seconds=seconds if real else 0.1,
            workers=str(allowed_threads()),
            compile_="default" if compiled and real else "none",  # on a CPU it takes minutes
            # Compiling is ours alone to show; lightly's rows stand in the other part.
            only="discern,compute" if compiled else "",
            out=out / part,
        )


if __name__ == "__main__":
    typer.run(main)
