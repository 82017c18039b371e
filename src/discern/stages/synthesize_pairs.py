"""Stage synthesize_pairs: decode (y, y~) → pairs of images, once."""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from discern.data.packed import PackedSplit
from discern.evaluation.features import extract
from discern.models.weights import load_decoder, load_encoder
from discern.params.synthesis import SynthesizePairs
from discern.stages.context import Context
from discern.stages.runner import execute
from discern.synthesis.basis import load_basis
from discern.synthesis.pairs import Synthesizer, synthesize
from discern.training.device import make_deterministic
from discern.workspace import atomic_dir

EXAMPLES = 16


def run(ctx: Context) -> None:
    """Make every training image's pairs."""
    make_deterministic(ctx.params.base.deterministic)
    split = PackedSplit.load(ctx.workspace.packed("train"))
    ctx.record.dataset("train", split.index, split.digest, "training")
    original, perturbed = make_pairs(ctx, split, load_synthesizer(ctx, ctx.params.synthesize_pairs))
    change = np.abs(perturbed.astype(np.int16) - original[:, None]).mean() / 255
    folder = ctx.workspace.pairs(ctx.seed)
    with atomic_dir(folder) as out:
        np.save(out / "original.npy", original)
        np.save(out / "perturbed.npy", perturbed)
        np.save(out / "examples.npy", examples(split.images, original, perturbed[:, 0]))
    ctx.record.metrics({"images": float(perturbed.shape[0] * perturbed.shape[1]), "mean_change": float(change)})
    ctx.record.artifact(folder / "examples.npy", "pairs")


def load_synthesizer(ctx: Context, params: SynthesizePairs, mask: torch.Tensor | None = None) -> Synthesizer:
    """Decoder and basis of this seed's base; `mask` in place of the scores' where one is given."""
    basis, scored = load_basis(ctx.workspace.scores(ctx.seed) / "basis.safetensors")
    decoder = load_decoder(ctx.workspace.base(ctx.seed)).to(ctx.device)
    return Synthesizer(decoder, basis.to(ctx.device), scored if mask is None else mask, params.perturbation)


def make_pairs(
    ctx: Context, split: PackedSplit, synthesizer: Synthesizer, copies: int | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decoded originals (N, R, R, 3) and perturbed versions (N, copies, R, R, 3) from the base encoder."""
    encoder = load_encoder(ctx.workspace.base(ctx.seed)).to(ctx.device)
    y = torch.from_numpy(extract(encoder, split.images, ctx.device, 256, ctx.params.base.precision)).to(ctx.device)
    return synthesize(synthesizer, y, copies or ctx.params.synthesize_pairs.copies, ctx.seed)


def examples(
    photos: NDArray[np.uint8], original: NDArray[np.uint8], perturbed: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Evenly spread photo, decoded and perturbed images side by side, (3, n, S, S, 3), for the report."""
    rows = np.linspace(0, len(photos) - 1, min(EXAMPLES, len(photos))).astype(int)
    size = photos.shape[1]

    def enlarge(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        x = torch.from_numpy(images[rows]).permute(0, 3, 1, 2).float()
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
        larger: NDArray[np.uint8] = x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        return larger

    return np.stack([np.asarray(photos[rows]), enlarge(original), enlarge(perturbed)])


if __name__ == "__main__":
    sys.exit(execute("synthesize_pairs", run))
