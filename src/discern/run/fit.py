"""Training within a stage: inputs, checkpoint key, monitor, curve and record."""

import csv
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from discern.embedding.features import Precision, extract
from discern.embedding.knn import vote
from discern.errors import DataError
from discern.images.loading import Budget, ImageStore
from discern.images.packed import PackedSplit
from discern.models.encoder import ImageEncoder
from discern.models.making import Making
from discern.models.origin import Origin
from discern.params.model import ParamModel
from discern.run import signals
from discern.run.context import Context
from discern.settings import settings
from discern.training.checkpoint import Checkpoint
from discern.training.device import make_deterministic
from discern.training.distributed import World
from discern.training.health import Row
from discern.training.loop import Run, train
from discern.training.objective import Objective
from discern.training.schedule import plan
from discern.workspace import atomic_file

CURVE = ("step", "passes", "loss", "chance", "contrastive", "reconstruction", "pair", "cross_entropy",
         "std", "knn", "lr", "grad_norm")  # fmt: skip
MONITOR_K, MONITOR_TEMPERATURE = 20, 0.07  # a curve to watch; the protocol's kNN has its own parameters
MONITOR_IMAGES = 10_000  # at most, of either split


@dataclass(frozen=True)
class Inputs:
    """What one training run starts from.

    Attributes:
        train: packed training images.
        val: packed validation images; may be empty.
        files: other files that decide the result, e.g. base weights; part of the checkpoint's key.
        params: the parameters that decide the result; part of it too.
    """

    train: PackedSplit
    val: PackedSplit
    files: list[Path]
    params: list[ParamModel]

    @property
    def size(self) -> int:
        """Side of the packed images in pixels."""
        return int(self.train.images.shape[1])

    @property
    def key(self) -> str:
        """Hash of everything that decides the result; the packed index stands for the pixels."""
        digest = hashlib.sha256(self.train.digest.encode())
        digest.update(json.dumps([p.model_dump(mode="json") for p in self.params], sort_keys=True).encode())
        for path in self.files:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def load_inputs(ctx: Context, files: list[Path], params: list[ParamModel]) -> Inputs:
    """The packed splits and whatever else decides the result.

    Raises:
        DataError: there are too few training images.
    """
    train_split = PackedSplit.load(ctx.workspace.packed("train"))
    if len(train_split.images) < 2:
        raise DataError(f"data/packed/train: {len(train_split.images)} images; training needs at least 2")
    val_split = PackedSplit.load(ctx.workspace.packed("val"))
    ctx.record.dataset("train", train_split.index, train_split.digest, "training")
    return Inputs(train_split, val_split, files, params)


def making(ctx: Context, inputs: Inputs, name: str, description: dict[str, Any], origin: Origin) -> Making:
    """What is kept beside an encoder's weights; the record of the run is told of the origin too.

    Args:
        ctx: the stage.
        inputs: that it was trained on.
        name: of the method.
        description: its parameters.
        origin: of the weights that it started from.
    """
    ctx.record.tags(origin.tags())
    return Making(
        image_size=inputs.size,
        resize=ctx.params.pack.resize,
        max_pixels=ctx.params.validation.max_pixels,
        method=name,
        description=description,
        weights=origin,
    )


def fit(
    ctx: Context,
    name: str,
    objective: Objective,
    budget: int,
    inputs: Inputs,
    memory: Budget | None = None,
) -> Checkpoint:
    """Train within a budget of encoder passes per image; write the curve and record it.

    Args:
        ctx: the stage.
        name: of the curve.
        objective: trained in place.
        budget: encoder passes per training image.
        inputs: what decides the result.
        memory: of the device, as far as images may still fill it; default all that the settings allow.

    Returns:
        The checkpoint, to be discarded once the stage's outputs are in place.

    Raises:
        SystemExit: in all processes but the first, which alone writes the outputs.
    """
    base = ctx.params.base
    make_deterministic(base.deterministic)
    world = World(ctx.device)
    stage_id = f"{ctx.stage}-{name}-{ctx.seed}"
    checkpoint = Checkpoint(ctx.workspace.work(stage_id, inputs.key), settings().checkpoint_seconds)

    def on_row(row: Row, step: int) -> None:
        ctx.record.metrics({k: v for k, v in row.items() if v is not None and k != "step"}, step)

    run = Run(
        name=f"{name} (seed {ctx.seed})",
        images=ImageStore(inputs.train.images, world.device, memory or Budget.of(world.device)),
        plan=plan(budget, len(inputs.train.images), base.batch_size, objective.passes),
        base=base,
        size=inputs.size,
        seed=ctx.seed,
        world=world,
        checkpoint=checkpoint,
        on_row=on_row,
        monitor=knn_monitor(inputs, base.precision, world.device),
        stop=signals.stop_requested,
    )
    with signals.deferred():
        rows = train(objective, run)
    if world.rank > 0:
        raise SystemExit(0)
    write_curve(ctx.workspace.curve(name, ctx.seed), rows)
    return checkpoint


def knn_monitor(
    inputs: Inputs, precision: Precision, device: torch.device
) -> Callable[[ImageEncoder], float | None]:
    """KNN accuracy on val, to watch training by; None where labels are missing.

    No choice is made by it: the last weights are kept, whatever the curve says. Of a large data set it takes
    evenly spread images, so that watching stays cheap.
    """
    train, val = (_thinned(split) for split in (inputs.train, inputs.val))
    labelled, watched = train.labels >= 0, val.labels >= 0

    def monitor(encoder: ImageEncoder) -> float | None:
        if not labelled.any() or not watched.any():
            return None
        gallery, queries = (extract(encoder, split.images, device, 256, precision) for split in (train, val))
        votes = vote(gallery[labelled], train.labels[labelled], queries[watched], MONITOR_K, MONITOR_TEMPERATURE)
        return float(np.mean(votes.predictions == val.labels[watched]))

    return monitor


def _thinned(split: PackedSplit) -> PackedSplit:
    """The split with at most MONITOR_IMAGES of its images, evenly spread; they stay where they lie."""
    every = max(1, math.ceil(len(split.images) / MONITOR_IMAGES))
    return replace(split, images=split.images[::every], labels=split.labels[::every])


def write_curve(path: Path, rows: list[Row]) -> None:
    """The training curve as CSV: columns common to all, empty where a term does not exist, then others."""
    columns = [*CURVE, *sorted({key for row in rows for key in row}.difference(CURVE))]
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = {key: row.get(key) for key in columns}
            writer.writerow({k: "" if v is None else f"{v:.6g}" for k, v in cells.items()})
