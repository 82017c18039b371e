"""The data report: one HTML file without anything from elsewhere, the same for the same data."""

import base64
import io
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader
from PIL import Image

from discern.data.decode import decode
from discern.data.manifest import ImageTar
from discern.data.packing import fit
from discern.data.rules import class_counts
from discern.data.splits import SPLITS
from discern.data.validation import Finding

_THUMBNAIL = 72
_PER_CLASS = 6
_CLASSES_SHOWN = 60
_QUARANTINED_SHOWN = 200
_UNLABELLED_SHOWN = 36


def render(
    source: dict[str, Any], files: pd.DataFrame, findings: list[Finding], tar: ImageTar, max_pixels: int
) -> str:
    """The report as HTML.

    Args:
        source: source.json.
        files: the manifest of all files, with reasons and final splits.
        findings: of the data gate.
        tar: the encoded files, for a few thumbnails.
        max_pixels: as in the data gate.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    images = files[files["reason"].isna()]
    quarantined = files[files["reason"].notna()]
    counts = class_counts(files)
    return environment.get_template("data_report.html").render(
        source=source,
        passed=all(finding.success or finding.severity == "warning" for finding in findings),
        warnings=sum(not finding.success and finding.severity == "warning" for finding in findings),
        findings=findings,
        splits={split: int((images["split"] == split).sum()) for split in SPLITS},
        files=len(files),
        images=len(images),
        bytes=int(images["bytes"].sum()),
        classes=_classes(counts, images, tar, max_pixels),
        classes_left_out=max(0, len(counts) - _CLASSES_SHOWN),
        largest=int(counts.sum(axis=1).max()) if len(counts) else 0,
        samples=[] if len(counts) else _thumbnails(images, _UNLABELLED_SHOWN, tar, max_pixels),
        thumbnail=_THUMBNAIL,
        sizes=_sizes(images),
        formats=_frequencies(images["format"]),
        modes=_frequencies(images["mode"]),
        quarantined=quarantined[["path", "reason"]].head(_QUARANTINED_SHOWN).to_dict("records"),
        quarantined_count=len(quarantined),
    )


def _classes(counts: pd.DataFrame, images: pd.DataFrame, tar: ImageTar, max_pixels: int) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "counts": {split: int(row[split]) for split in SPLITS},
            "total": int(row.sum()),
            "thumbnails": _thumbnails(images[images["label"] == name], _PER_CLASS, tar, max_pixels),
        }
        for name, row in counts.head(_CLASSES_SHOWN).iterrows()
    ]


def _thumbnails(images: pd.DataFrame, count: int, tar: ImageTar, max_pixels: int) -> list[dict[str, str]]:
    """Images spread evenly over the rows, as data URIs."""
    chosen = images.iloc[:: max(1, len(images) // count)].head(count)
    return [
        {"title": f"{image.path} ({image.width}×{image.height})", "uri": _data_uri(image, tar, max_pixels)}
        for image in chosen.itertuples()
    ]


def _data_uri(image: Any, tar: ImageTar, max_pixels: int) -> str:
    picture = decode(tar.read(image.offset, image.size), max_pixels, draft=2 * _THUMBNAIL).image
    encoded = io.BytesIO()
    fit(picture, _THUMBNAIL, "crop", Image.Resampling.LANCZOS).save(encoded, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")


def _sizes(images: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for column, unit in (("width", "px"), ("height", "px"), ("bytes", "bytes")):
        values = images[column]
        if len(values):
            low, middle, high = (int(values.quantile(q, interpolation="nearest")) for q in (0, 0.5, 1))
            rows.append({"name": column, "unit": unit, "low": low, "middle": middle, "high": high})
    return rows


def _frequencies(values: pd.Series) -> list[tuple[str, int]]:
    counts = values.value_counts()
    return sorted(
        ((str(name), int(count)) for name, count in counts.items()), key=lambda item: (-item[1], item[0])
    )
