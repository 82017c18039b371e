"""Stage pack: every good image decoded once, to arrays that training maps into memory."""

import json
import logging
import time
from pathlib import Path

import pandas as pd

from discern.data.manifest import ImageTar
from discern.data.packing import PartMasks, pack_images, pack_masks
from discern.data.splits import SPLITS
from discern.images.packed import PackedSplit
from discern.run.context import Context
from discern.workspace import atomic_dir

log = logging.getLogger(__name__)


def run(ctx: Context) -> None:
    """Fill data/packed."""
    raw, packed = ctx.workspace.raw, ctx.workspace.packed("train").parent
    manifest = pd.read_parquet(ctx.workspace.validated / "manifest.parquet")
    classes = sorted(manifest["label"].dropna().unique())
    numbers = {name: number for number, name in enumerate(classes)}
    manifest["label_id"] = manifest["label"].map(numbers).fillna(-1).astype("int64")
    masks = PartMasks.load(raw / "truth.npz") if (raw / "truth.npz").exists() else None
    started = time.perf_counter()
    with atomic_dir(packed) as out, ImageTar(raw / "images.tar") as tar:
        (out / "classes.json").write_text(json.dumps(classes, indent=2) + "\n", encoding="utf-8")
        for split in SPLITS:
            images = manifest[manifest["split"] == split]
            folder = out / split
            folder.mkdir()
            images[["path", "label", "label_id", "sha256"]].to_parquet(folder / "index.parquet", index=False)
            pack_images(images, tar, ctx.params.pack, ctx.params.validation.max_pixels, folder / "images.npy")
            if masks is not None:
                pack_masks(images["path"].tolist(), masks, ctx.params.pack, folder / "parts.npy")
                _pack_attributes(raw / "attributes.parquet", images, folder / "attributes.parquet")
    seconds = time.perf_counter() - started
    contexts = {"train": "training", "val": "validation", "test": "test"}
    for split in SPLITS:
        data = PackedSplit.load(packed / split)
        ctx.record.dataset(f"packed-{split}", data.index, data.digest, context=contexts[split])
    size = sum(file.stat().st_size for file in packed.rglob("*.npy"))
    ctx.record.metrics({"images_per_second": len(manifest) / seconds, "bytes": size})
    log.info("%d images, %.1f MB, %.0f images/s", len(manifest), size / 1e6, len(manifest) / seconds)


def _pack_attributes(table: Path, images: pd.DataFrame, out: Path) -> None:
    """What was drawn, in the order of the packed images."""
    attributes = pd.read_parquet(table).set_index("path").loc[images["path"]].reset_index()
    attributes.to_parquet(out, index=False)
