"""Stage validate, the data gate: every file decoded, bad ones quarantined, splits settled, rules checked."""

import csv
import hashlib
import json
import logging
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from discern.data import manifest, report, splits, validation
from discern.data.validation import Finding
from discern.errors import DataError
from discern.run.context import Context
from discern.settings import home
from discern.workspace import atomic_dir, atomic_file

log = logging.getLogger(__name__)

_COLUMNS = ["path", "label", "split", "sha256", "bytes", "width", "height", "mode", "format", "offset", "size"]


def run(ctx: Context) -> None:
    """Fill data/validated, or stop the pipeline.

    Raises:
        DataError: a rule of severity `error` is broken.
    """
    params, workspace = ctx.params.validation, ctx.workspace
    images_tar = workspace.raw / "images.tar"
    listing = pd.read_parquet(workspace.raw / "listing.parquet")
    source = json.loads((workspace.raw / "source.json").read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        # Pillow's hints to programmers; what matters about a file is in its reason.
        warnings.filterwarnings("ignore", module="PIL")
        files = manifest.build(images_tar, listing, params.max_pixels)
        files = splits.settle(files, params.val_fraction, params.test_fraction)
        findings = validation.check(files, params)
        with manifest.ImageTar(images_tar) as tar:
            html = report.render(source, files, findings, tar, params.max_pixels)
    images = files.loc[files["reason"].isna(), _COLUMNS].reset_index(drop=True)
    with atomic_dir(workspace.validated) as folder:
        images.to_parquet(folder / "manifest.parquet", index=False)
        _write_quarantine(files, folder / "quarantine.csv")
        _write_findings(findings, folder / "expectations.json")
        (folder / "report.html").write_text(html, encoding="utf-8")
        _stop_if_broken(findings, folder)
    counts = _counts(files, findings)
    with atomic_file(workspace.data_metrics) as path:
        path.write_text(json.dumps(counts, indent=2) + "\n", encoding="utf-8")
    ctx.record.metrics(counts)
    ctx.record.dataset(source["name"], images, _digest(images), context="validation")
    for name in ("report.html", "quarantine.csv", "expectations.json"):
        ctx.record.artifact(workspace.validated / name, "data")
    for finding in findings:
        if not finding.success:
            log.warning("%s", finding.line)
    log.info("%(images)d images, %(classes)d classes, %(quarantined)d quarantined", counts)


def _write_quarantine(files: pd.DataFrame, path: Path) -> None:
    bad = files[files["reason"].notna()]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        writer.writerows(zip(bad["path"], bad["reason"], strict=True))


def _write_findings(findings: list[Finding], path: Path) -> None:
    content = {
        "success": all(finding.success for finding in findings if finding.severity == "error"),
        "findings": [asdict(finding) for finding in findings],
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _stop_if_broken(findings: list[Finding], folder: Path) -> None:
    broken = [finding for finding in findings if not finding.success and finding.severity == "error"]
    if not broken:
        return
    # The outputs vanish with the failure; what explains it must not.
    kept = home() / ".discern"
    kept.mkdir(exist_ok=True)
    for name in ("quarantine.csv", "report.html"):
        shutil.copy(folder / name, kept / f"data-{name}" if name == "report.html" else kept / name)
    others = f"; also broken: {', '.join(finding.rule for finding in broken[1:])}" if broken[1:] else ""
    raise DataError(f"data gate: {broken[0].line}{others}; see {kept / 'quarantine.csv'} and data-report.html")


def _counts(files: pd.DataFrame, findings: list[Finding]) -> dict[str, int]:
    images = files[files["reason"].isna()]
    per_class = images["label"].value_counts()
    return {
        "files": len(files),
        "images": len(images),
        "quarantined": len(files) - len(images),
        "warnings": sum(not finding.success for finding in findings),
        "classes": len(per_class),
        "smallest_class": int(per_class.min()) if len(per_class) else 0,
        "largest_class": int(per_class.max()) if len(per_class) else 0,
        **{split: int((images["split"] == split).sum()) for split in splits.SPLITS},
        "bytes": int(images["bytes"].sum()),
    }


def _digest(images: pd.DataFrame) -> str:
    """Of content, labels and splits; MLflow takes 36 characters."""
    columns = images[["path", "label", "split", "sha256"]].fillna("")
    return hashlib.sha256(columns.to_csv(index=False).encode()).hexdigest()[:32]
