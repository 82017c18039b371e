"""Stage synthesize_pairs: decode (y, y~) → pairs of images, once."""

import numpy as np
import torch
from numpy.typing import NDArray

from discern.images.packed import PackedSplit, evenly_spread
from discern.images.views import resized
from discern.run.context import Context
from discern.synthesis.pairs.making import load_synthesizer, make_pairs
from discern.training.device import make_deterministic
from discern.workspace import atomic_dir

EXAMPLES = 16


def run(ctx: Context) -> None:
    """Make every training image's pairs."""
    make_deterministic(ctx.params.base.deterministic)
    split = PackedSplit.load(ctx.workspace.packed("train"))
    ctx.record.dataset("train", split.index, split.digest, "training")
    original, perturbed = make_pairs(ctx, split, load_synthesizer(ctx))
    change = np.abs(perturbed.astype(np.int16) - original[:, None]).mean() / 255
    folder = ctx.workspace.pairs(ctx.seed)
    with atomic_dir(folder) as out:
        np.save(out / "original.npy", original)
        np.save(out / "perturbed.npy", perturbed)
        np.save(out / "examples.npy", examples(split.images, original, perturbed[:, 0]))
    ctx.record.metrics({"images": float(perturbed.shape[0] * perturbed.shape[1]), "mean_change": float(change)})
    ctx.record.artifact(folder / "examples.npy", "pairs")


def examples(
    photos: NDArray[np.uint8], original: NDArray[np.uint8], perturbed: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Evenly spread photo, decoded and perturbed images side by side, (3, n, S, S, 3), for the report."""
    rows = evenly_spread(len(photos), EXAMPLES)

    def enlarge(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        x = resized(torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float(), photos.shape[1])
        larger: NDArray[np.uint8] = x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return larger

    return np.stack([np.asarray(photos[rows]), enlarge(original), enlarge(perturbed)])
