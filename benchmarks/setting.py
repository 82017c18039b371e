"""What a benchmark runs: sizes, network, data; and the description of the machine it ran on."""

import json
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from discern.data.packing import row_writer
from discern.machine import allowed_threads
from discern.tracking.provenance import processor

SOURCE = 8 / 7  # side of the stored photographs over that of a view: 256 for 224


@dataclass(frozen=True)
class Setting:
    """One measurement's sizes.

    Attributes:
        device: cpu or cuda.
        network: resnet18 or resnet50, 64 channels wide, ImageNet stem.
        size: side of a view in pixels.
        batch: images of a step.
        images: photographs in the data set.
        workers: loader processes of lightly.
        data: folder with `photos/*.jpg` and `images.npy`.
        compile: DISCERN_COMPILE of our contestants.
        queue: keys of MoCo's queue.
        width: channels of the network's first stage.
        resolution: side of decoded pairs in pixels.
        resident: False: our images are read from disk.
    """

    device: str
    network: str
    size: int
    batch: int
    images: int
    workers: int
    data: str
    compile: str = "none"
    queue: int = 1024
    width: int = 64
    resolution: int = 32
    resident: bool = True

    @property
    def source(self) -> int:
        """Side of the stored photographs in pixels."""
        return round(self.size * SOURCE)


def photograph(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Soft shapes with some grain: what they show does not matter here, that a JPEG is of ordinary size does."""
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    noisy = soft + rng.integers(-12, 13, (height, width, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def draw(setting: Setting) -> None:
    """Make the photographs of a setting, as JPEGs and packed."""
    folder, side = Path(setting.data), setting.source
    (folder / "photos").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with row_writer(folder / "images.npy", np.uint8, (setting.images, side, side, 3)) as write:
        for number in range(setting.images):
            image = photograph(rng, side, side)
            write(number, np.asarray(image))
            image.save(folder / "photos" / f"{number:06d}.jpg", quality=90)


def provenance(device: str) -> dict[str, Any]:
    """Command, date and machine of this process's measurement; where it read and wrote is nobody's business."""
    arguments = sys.argv[1:]
    if "--out" in arguments:
        at = arguments.index("--out")
        del arguments[at : at + 2]
    if "--photos" in arguments:
        arguments[arguments.index("--photos") + 1] = "FOLDER"
    command = shlex.join(["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *arguments])
    return {"command": command, "date": datetime.now(UTC).date().isoformat(), "machine": machine(device)}


def publish(result: dict[str, Any], table: str, out: Path | None) -> None:
    """Print the table; write it as OUT.md and the figures as OUT.json where a file is named."""
    print(table)
    if out:
        out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        out.with_suffix(".md").write_text(table, encoding="utf-8")


def machine(device: str) -> dict[str, str | int | float]:
    """Processor or accelerator, cores, memory and versions; never a path or a host name."""
    found: dict[str, str | int | float] = {
        "cpu": processor(),
        "cores": allowed_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": sys.version.split()[0],
        **{name: version(name) for name in ("torch", "torchvision")},
    }
    if device == "cuda":
        import torch

        found["gpu"] = torch.cuda.get_device_name()
    return found
