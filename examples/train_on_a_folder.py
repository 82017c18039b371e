"""SimCLR on a folder of photographs, without a pipeline: `python examples/train_on_a_folder.py PHOTOS OUT`."""

from pathlib import Path

import numpy as np
import typer

import discern
from discern.embedding.reading import read
from discern.methods.build import build_two_view
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.models.build import build_encoder
from discern.models.making import Making
from discern.models.weights import save_encoder
from discern.params.base import NEUTRAL, Base
from discern.params.two_view import SimCLR
from discern.run.alone import train_alone
from discern.training.health import Row


def show(row: Row, step: int) -> None:
    """One line of the curve: SimCLR learns when its loss leaves the chance level."""
    print(f"step {step}: loss {row['loss']:.3f}, chance {row['chance']:.3f}")


def main(photos: Path, out: Path, passes: int = 200, size: int = 64, width: int = 32, batch: int = 128) -> None:
    """Train for `passes` encoder passes a photograph; write the encoder and the features of PHOTOS to OUT."""
    views = {
        "crop_area": (0.3, 1.0), "flip": 0.5, "jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "hue": 0.1,
        "saturation": 0.4, "grayscale": 0.2, "solarize": 0.0, "blur": 0.0, "blur_sigma": (0.1, 2.0)}  # fmt: skip
    optimizer = {"kind": "sgd", "lr": 0.48, "momentum": 0.9, "weight_decay": 5e-4, "clip": 0.0, "warmup": 0.1}
    base = Base.model_validate(
        {"encoder": {"kind": "resnet18", "width": width, "stem": "half"}, "weights": "none", "precision": "fp32",
         "batch_size": batch, "accumulate": 1, "deterministic": True, "sync_batch_norm": True, "views": views,
         "adaptation": NEUTRAL, "optimizer": optimizer})  # fmt: skip
    simclr = SimCLR(kind="simclr", rate=1.0, temperature=0.2, hidden=256, dim=128)
    making = Making(image_size=size, method="simclr", description=simclr.model_dump())

    images = np.concatenate([some.images for some in read(photos, making)])  # (N, size, size, 3)
    encoder = build_encoder(base.encoder, seed=0)
    objective = ContrastiveObjective(build_two_view(simclr, encoder, len(images), seed=0))
    train_alone(objective, images, base, passes, out / "checkpoints", show)
    save_encoder(out, encoder, making)
    found = discern.load(out).embed(photos)
    np.savez(out / "features.npz", paths=found.names, features=found.features)


if __name__ == "__main__":
    typer.run(main)
