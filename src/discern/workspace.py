"""Where every file of the pipeline lies, and how outputs come into being whole or not at all."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.settings import home


@dataclass(frozen=True)
class Workspace:
    """Paths of one checkout; the same names stand in dvc.yaml.

    Attributes:
        root: the checkout's folder; stages run in it.
    """

    root: Path

    @property
    def params(self) -> Path:
        """The parameter file."""
        return self.root / "params.yaml"

    @property
    def raw(self) -> Path:
        """What download made: images.tar, listing.parquet, source.json, and truth.npz where it is known."""
        return self.root / "data" / "raw"

    @property
    def validated(self) -> Path:
        """What validate made: manifest.parquet, quarantine.csv, expectations.json, report.html."""
        return self.root / "data" / "validated"

    def packed(self, split: str) -> Path:
        """images.npy and index.parquet of one split."""
        return self.root / "data" / "packed" / split

    def base(self, seed: int) -> Path:
        """Base encoder, decoder and SSL head of one seed."""
        return self.root / "models" / "base" / str(seed)

    def scores(self, seed: int) -> Path:
        """scores.parquet and basis.safetensors of one seed."""
        return self.root / "models" / "scores" / str(seed)

    def pairs(self, seed: int) -> Path:
        """Decoded originals and perturbed versions of one seed."""
        return self.root / "data" / "pairs" / str(seed)

    def encoder(self, method: str, seed: int) -> Path:
        """The trained encoder of one method."""
        return self.root / "models" / "encoders" / method / str(seed)

    def embeddings(self, method: str, seed: int) -> Path:
        """test.npz (features) and outcomes.parquet (one row per test image) of one method."""
        return self.root / "data" / "embeddings" / method / str(seed)

    def metrics(self, method: str, seed: int) -> Path:
        """The figures of one method; git-tracked."""
        return self.root / "metrics" / "methods" / method / f"{seed}.json"

    @property
    def data_metrics(self) -> Path:
        """Counts of the data gate; git-tracked."""
        return self.root / "metrics" / "data.json"

    def stage_metrics(self, stage: str, seed: int) -> Path:
        """Figures of a stage that trains no method; git-tracked."""
        return self.root / "metrics" / stage / f"{seed}.json"

    @property
    def summary(self) -> Path:
        """The table of methods; git-tracked."""
        return self.root / "metrics" / "summary.json"

    def curve(self, method: str, seed: int) -> Path:
        """Training curve of one method (`base` for the shared encoder): one row per logged step."""
        return self.root / "plots" / "training" / f"{method}-{seed}.csv"

    @property
    def report(self) -> Path:
        """The one-file HTML."""
        return self.root / "reports" / "report.html"

    def run_record(self, stage_id: str) -> Path:
        """run.json of one stage, e.g. `train_encoder@0`; nobody depends on it."""
        return self.root / "reports" / "runs" / f"{stage_id}.json"

    @property
    def downloads(self) -> Path:
        """Fetched archives, kept outside DVC's outputs and found by temporary runs too."""
        return home() / ".discern" / "downloads"

    def work(self, stage_id: str, key: str) -> Path:
        """Checkpoints of one stage, for one hash of its inputs and parameters."""
        return home() / ".discern" / "work" / f"{stage_id}-{key[:16]}"


def _partial(final: Path) -> Path:
    return final.with_name(f".{final.name}.partial")


@contextmanager
def atomic_dir(final: Path) -> Iterator[Path]:
    """A folder to write in, which becomes `final` when the block ends well and vanishes when it does not."""
    partial = _partial(final)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)


@contextmanager
def atomic_file(final: Path) -> Iterator[Path]:
    """A file name to write to, which becomes `final` when the block ends well and vanishes otherwise."""
    partial = _partial(final)
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)


def write_figures(path: Path, figures: Mapping[str, Any], sort: bool = False) -> None:
    """Write figures, nested or not, as JSON; to six decimals: finer ones differ between machines."""
    with atomic_file(path) as partial:
        text = json.dumps(_rounded(figures), indent=2, sort_keys=sort, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 6) if isinstance(value, float) else value
