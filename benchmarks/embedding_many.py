"""`discern embed` on very many photographs: memory stays flat, and a kill in the middle costs and doubles no row.

    python -m benchmarks.embedding_many --count 100000

A few small JPEGs stand, as hard links, for all of them, and a small network for a real one: what is measured is
what grows with their number.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow.parquet as pq
import typer

from benchmarks.setting import photograph, provenance, publish
from discern.models.build import build_encoder
from discern.models.making import Making
from discern.models.weights import save_encoder
from discern.params.encoder import ResNet

VARIETY = 64  # different photographs
FOLDER_OF = 1000  # photographs in a folder
MARKS = (0.1, 0.5, 0.9)  # shares of the photographs at which memory is told


def draw(folder: Path, count: int) -> None:
    """Hard links to a few JPEGs of 64x48 pixels."""
    rng, originals = np.random.default_rng(0), folder.with_name("originals")
    originals.mkdir()
    for number in range(VARIETY):
        photograph(rng, 64, 48).save(originals / f"{number}.jpg", quality=90)
    for number in range(count):
        below = folder / f"{number // FOLDER_OF:05}"
        if number % FOLDER_OF == 0:
            below.mkdir(parents=True)
        os.link(originals / f"{number % VARIETY}.jpg", below / f"{number:08}.jpg")


class Peak(threading.Thread):
    """Largest resident memory of a process so far, which Linux keeps as long as the process lives.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.status, self.mb = Path(f"/proc/{pid}/status"), 0.0
        self.start()

    def run(self) -> None:
        """Look again and again until the process is gone."""
        while self.look():
            time.sleep(0.02)

    def look(self) -> bool:
        """Whether it is still there."""
        try:
            lines = self.status.read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        found = [int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")]
        self.mb = max(found, default=self.mb)
        return bool(found)


def live(command: list[str], kill_at: float) -> tuple[float, dict[float, float]]:
    """One life of the command: it is killed at a share of the photographs; above 1 it ends by itself.

    Returns:
        Seconds, and peak memory in MB by the share that was done.
    """
    began, marks, left = time.perf_counter(), {}, list(MARKS)
    environment = {**os.environ, "DISCERN_PROGRESS": "lines", "DISCERN_DEVICE": "cpu"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr
        peak = Peak(process.pid)
        for line in process.stderr:
            if not line.startswith("progress "):
                print(line, end="", file=sys.stderr, flush=True)
                continue
            share = float(line.split()[1])
            while left and share >= left[0]:
                marks[left.pop(0)] = peak.mb
            if share >= kill_at:
                process.kill()
                break
        code = process.wait()
    marks[1.0] = peak.mb
    assert code == (-9 if kill_at <= 1 else 0), f"it ended with {code}"
    return time.perf_counter() - began, marks


def main(
    count: int = 100_000,
    kill_at: Annotated[float, typer.Option(help="share of the photographs")] = 0.5,
    out: Annotated[Path | None, typer.Option(help="results file; default: printed only")] = None,
) -> None:
    """Embed, kill, go on, check every row, and print a table."""
    with tempfile.TemporaryDirectory(prefix="discern-many-") as name:
        scratch = Path(name)
        encoder = build_encoder(ResNet(kind="resnet18", width=8, stem="half"), seed=0)
        save_encoder(scratch / "encoder", encoder, Making(32))
        draw(scratch / "photos", count)
        features = scratch / "features.parquet"
        command = [sys.executable, "-m", "discern", "embed", str(scratch / "photos"), "--out", str(features)]
        command += ["--encoder", str(scratch / "encoder")]
        first_s, first = live(command, kill_at)
        assert not features.exists()
        second_s, second = live(command, 2.0)
        paths = pq.read_table(features, columns=["path"])["path"].to_pylist()
        row_groups = pq.ParquetFile(features).num_row_groups
        left = sorted(path.name for path in scratch.iterdir())
    assert left == ["encoder", "features.parquet", "originals", "photos"], left
    expected = [f"{number // FOLDER_OF:05}/{number:08}.jpg" for number in range(count)]
    result = {
        **provenance("cpu"),
        "count": count,
        "first": {"seconds": first_s, "peak_mb": first},
        "second": {"seconds": second_s, "peak_mb": second},
        "rows": len(paths),
        "missing": len(set(expected) - set(paths)),
        "doubled": len(paths) - len(set(paths)),
        "in_order": paths == expected,
        "row_groups": row_groups,
    }
    publish(result, table(result, kill_at), out)


def table(result: dict[str, Any], kill_at: float) -> str:
    """The result as Markdown."""
    head = ["run", "seconds", *(f"peak MB at {mark:.0%}" for mark in MARKS), "peak MB at the end"]
    lines = [f"| {' | '.join(head)} |", "| --- |" + " ---: |" * (len(head) - 1)]
    for name, key in ((f"killed (SIGKILL) at {kill_at:.0%}", "first"), ("gone on with", "second")):
        peaks = result[key]["peak_mb"]
        cells = [f"{peaks[mark]:.0f}" if mark in peaks else "–" for mark in (*MARKS, 1.0)]
        lines.append(f"| {name} | {result[key]['seconds']:.0f} | {' | '.join(cells)} |")
    told = ", ".join(f"{result[key]} {key}" for key in ("rows", "missing", "doubled"))
    lines += ["", f"{result['count']:,} photographs: {told}; in order: {result['in_order']}", ""]
    lines += [
        f"{result['date']}, `{result['command']}`",
        "",
        ", ".join(f"{k} {v}" for k, v in result["machine"].items()),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
