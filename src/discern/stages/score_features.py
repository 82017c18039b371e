"""Stage score_features: one pass over train → variance and importance of every dimension, and the mask."""

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.embedding.features import extract
from discern.images.packed import PackedSplit
from discern.images.views import Augment
from discern.methods.build import load_two_view
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.run.context import Context
from discern.synthesis.criteria.agreement import agreement
from discern.synthesis.criteria.basis import Basis, fit_basis, save_basis
from discern.synthesis.criteria.overlays import loss_heat_maps
from discern.synthesis.criteria.scoring import importance, loss_gradients, select
from discern.training.device import autocast, make_deterministic
from discern.workspace import atomic_dir, write_figures

HEAT_MAPS = 12


def run(ctx: Context) -> None:
    """Score the base encoder's dimensions."""
    base, params = ctx.params.base, ctx.params.score_features
    make_deterministic(base.deterministic)
    split = PackedSplit.load(ctx.workspace.packed("train"))
    ctx.record.dataset("train", split.index, split.digest, "training")
    method = load_two_view(ctx.params.loss, ctx.workspace.base(ctx.seed), len(split.images), base.adaptation)
    method.to(ctx.device).eval()

    y = torch.from_numpy(extract(method.encoder, split.images, ctx.device, 256, base.precision))  # (N, D)
    basis = fit_basis(y, params.basis)
    importances, heat = grad_cam(ctx, method, split, basis)
    scored = importances if params.mask == "image" else importances.mean(0)
    mask = select(basis.sigma**2, scored, params)

    table = pd.DataFrame(
        {
            "dimension": np.arange(y.shape[1]),
            "variance": (basis.sigma**2).numpy(),
            "importance": importances.mean(0).numpy(),
            "mask": (mask.float().mean(0) >= 0.5).numpy() if mask.ndim == 2 else mask.numpy(),
        }
    )
    figures = {"masked": float(mask.float().mean()), "variance_kept": kept(basis.sigma**2, mask)}
    figures |= agreement(basis.coefficients(y), table, split)
    folder = ctx.workspace.scores(ctx.seed)
    with atomic_dir(folder) as out:
        table.to_parquet(out / "scores.parquet", index=False)
        save_basis(out / "basis.safetensors", basis, mask)
        np.save(out / "heat_maps.npy", heat)
    write_figures(ctx.workspace.stage_metrics("scores", ctx.seed), figures)
    ctx.record.metrics(figures)
    ctx.record.artifact(folder, "scores")


def grad_cam(
    ctx: Context, method: JointEmbedding, split: PackedSplit, basis: Basis
) -> tuple[Tensor, NDArray[np.float32]]:
    """Importances (N, D) from two random views of every image, and heat maps (n, S, S) of the first few."""
    base, size, count = ctx.params.base, int(split.images.shape[1]), len(split.images)
    augment = Augment(base.views, size, ctx.seed)
    importances, heat = [], np.zeros((0, size, size), np.float32)
    # A loss needs company: batches of equal size, the last one filled up from the front.
    order = torch.arange(count)
    for start in range(0, count, base.batch_size):
        rows = order[start : start + base.batch_size]
        filled = torch.cat([rows, order[: min(base.batch_size, count) - len(rows)]])
        images = torch.from_numpy(split.images[filled.numpy()]).to(ctx.device).permute(0, 3, 1, 2)
        x1, x2 = (augment(images, filled, 0, view) for view in (0, 1))
        with autocast(ctx.device, base.precision):
            y, gradient = loss_gradients(method, x1, x2)
        if start == 0:  # in full precision: pytorch-grad-cam turns activations into numpy arrays
            positions = method.encoder.feature_map(x1[:1]).shape[2:].numel()
            heat = loss_heat_maps(method, x1, x2, min(HEAT_MAPS, len(rows)))
        scores = importance(y.cpu(), gradient.cpu(), basis, positions, ctx.params.score_features.sign)
        importances.append(scores[: len(rows)])
    return torch.cat(importances), heat


def kept(variance: Tensor, mask: Tensor) -> float:
    """Share of the variance that stays untouched; for masks of their own, the mean over images."""
    return float(((variance * ~mask).sum(-1) / variance.sum()).mean())
