"""What a version claims about itself: its figures, image by image, and on which images they were taken."""

import hashlib
import json
from pathlib import Path

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from discern.errors import ModelError

CHECKSUMS = "checksums.json"


class Evidence(BaseModel):
    """evaluation/evidence.json of a version.

    Attributes:
        method: which method the encoder is of.
        seed: its training seed.
        splits: digest of each packed split; the test split's must be equal for two versions to be compared.
        protocol: parameters of the evaluation.
        figures: everything that the evaluation found, as metrics/methods/METHOD/SEED.json.
        commit: of the code, empty without Git.
        dirty: whether the code differed from that commit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    seed: int
    splits: dict[str, str]
    protocol: dict[str, object]
    figures: dict[str, object]
    commit: str
    dirty: bool

    @property
    def digest(self) -> str:
        """One checksum of the test images, their labels and the protocol: what makes figures comparable."""
        text = json.dumps([self.splits["test"], self.protocol], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def figure(self, measure: str) -> float | None:
        """A figure by its dotted name (`probe.top1`), None where the evaluation has none."""
        section, _, name = measure.partition(".")
        found = self.figures.get(section)
        value = found.get(name) if isinstance(found, dict) else None
        return None if value is None else float(value)


def read_evidence(model: Path) -> tuple[Evidence, pd.DataFrame]:
    """Figures and per-image outcomes, from MLflow's folder of a version.

    Raises:
        ModelError: they are missing or not what this version of discern wrote.
    """
    folder = packed(model) / "evaluation"
    try:
        evidence = Evidence.model_validate_json((folder / "evidence.json").read_text(encoding="utf-8"))
        return evidence, pd.read_parquet(folder / "outcomes.parquet")
    except (OSError, ValidationError) as error:
        why = f"no evaluation that can be read ({type(error).__name__})"
        raise ModelError(f"{model.name}: {why}; register it anew") from error


def write_checksums(folder: Path) -> str:
    """Write the SHA-256 of every file; returns that of the list, which the registry keeps as a tag."""
    sums = {
        path.relative_to(folder).as_posix(): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    (folder / CHECKSUMS).write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")
    return _sha256(folder / CHECKSUMS)


def packed(model: Path) -> Path:
    """What `discern register` packed, in MLflow's folder of a version.

    Raises:
        ModelError: the version was made by something else.
    """
    found = next((path.parent for path in model.glob(f"data/*/{CHECKSUMS}")), None)
    if found is None:
        raise ModelError(f"{model.name}: was not made by `discern register`")
    return found


def code_digest(folder: Path) -> str:
    """One checksum of the package `discern` in a folder: names and contents of all its files."""
    files = sorted(p for p in (folder / "discern").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    listing = [f"{path.relative_to(folder).as_posix()} {_sha256(path)}" for path in files]
    return hashlib.sha256("\n".join(listing).encode()).hexdigest()


def tampered(model: Path, checksum: str, code: str) -> str | None:
    """What is not as it was registered, or None.

    Args:
        model: MLflow's folder of a version as it was downloaded.
        checksum: of the list of checksums.
        code: digest of the code that serves it.
    """
    if code_digest(model / "code") != code:
        return "the code that serves it was changed"
    folder = packed(model)
    listing = folder / CHECKSUMS
    if not listing.is_file() or _sha256(listing) != checksum:
        return f"{CHECKSUMS} is not the one that was registered"
    sums: dict[str, str] = json.loads(listing.read_text(encoding="utf-8"))
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {CHECKSUMS}
    if present != set(sums):
        return f"files were added or are missing: {', '.join(sorted(present ^ set(sums)))}"
    return next((f"{name} was changed" for name, sha in sums.items() if _sha256(folder / name) != sha), None)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
