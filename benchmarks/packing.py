"""Speed and memory of `pack` on data sets of growing size: JPEGs of 500x375 pixels to 128 px.

python -m benchmarks.packing --counts 1000,10000
"""

import io
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from benchmarks.setting import photograph
from discern.data.manifest import ImageTar
from discern.data.packing import pack_images
from discern.params.pipeline import Pack

VARIETY = 8  # different photographs; the archive repeats them


def photographs() -> list[bytes]:
    """Some JPEGs of 500x375 pixels."""
    rng, encoded = np.random.default_rng(0), []
    for _ in range(VARIETY):
        with io.BytesIO() as file:
            photograph(rng, 500, 375).save(file, "JPEG", quality=90)
            encoded.append(file.getvalue())
    return encoded


def measure(count: int) -> None:
    """Pack `count` photographs in this process and print a row."""
    with tempfile.TemporaryDirectory(prefix="discern-packing-") as name:
        folder, jpegs, rows = Path(name), photographs(), []
        with tarfile.open(folder / "images.tar", "w") as tar:
            for number in range(count):
                info = tarfile.TarInfo(f"{number:07}.jpg")
                info.size = len(jpegs[number % VARIETY])
                rows.append((info.name, tar.offset + tarfile.BLOCKSIZE, info.size))
                tar.addfile(info, io.BytesIO(jpegs[number % VARIETY]))
                tar.members.clear()  # type: ignore[attr-defined]  # they would be the memory measured here
        images = pd.DataFrame(rows, columns=["path", "offset", "size"])
        began = time.perf_counter()
        with ImageTar(folder / "images.tar") as archive:
            pack_images(images, archive, Pack(image_size=128, resize="crop"), 10**8, folder / "images.npy")
        seconds = time.perf_counter() - began
        size = (folder / "images.npy").stat().st_size / 1e6
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(f"| {count} | {count / seconds:.0f} | {size:.0f} | {peak:.0f} |")


def main(
    counts: Annotated[str, typer.Option(help="numbers of images")] = "1000,10000",
    one: Annotated[int, typer.Option(help="measure this number in this very process", hidden=True)] = 0,
) -> None:
    """Print a table; every row comes from a process of its own."""
    if one:
        measure(one)
        return
    print("| images | images/s | packed MB | peak memory MB |\n| ---: | ---: | ---: | ---: |", flush=True)
    for count in counts.split(","):
        subprocess.run([sys.executable, "-m", "benchmarks.packing", "--one", count], check=True)


if __name__ == "__main__":
    typer.run(main)
