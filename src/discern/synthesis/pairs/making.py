"""The pairs of a whole training set, from the base encoder, its decoder and the scores."""

import numpy as np
import torch
from numpy.typing import NDArray

from discern.embedding.features import extract
from discern.images.packed import PackedSplit
from discern.models.weights import load_decoder, load_encoder
from discern.run.context import Context
from discern.synthesis.criteria.basis import load_basis
from discern.synthesis.pairs.decoding import Synthesizer, synthesize

Made = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Decoded originals (N, R, R, 3) and perturbed versions (N, copies, R, R, 3)."""


def load_synthesizer(ctx: Context, mask: torch.Tensor | None = None) -> Synthesizer:
    """Decoder and basis of this seed's base; `mask` in place of the scores' where one is given."""
    basis, scored = load_basis(ctx.workspace.scores(ctx.seed) / "basis.safetensors")
    decoder = load_decoder(ctx.workspace.base(ctx.seed)).to(ctx.device)
    perturbation = ctx.params.synthesize_pairs.perturbation
    return Synthesizer(decoder, basis.to(ctx.device), scored if mask is None else mask, perturbation)


def make_pairs(ctx: Context, split: PackedSplit, synthesizer: Synthesizer) -> Made:
    """The pairs of every training image, from the base encoder."""
    encoder = load_encoder(ctx.workspace.base(ctx.seed)).to(ctx.device)
    y = torch.from_numpy(extract(encoder, split.images, ctx.device, 256, ctx.params.base.precision)).to(ctx.device)
    return synthesize(synthesizer, y, ctx.params.synthesize_pairs.copies, ctx.seed)
