"""The training loop: one step readable on one screen, resumable at any step."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.data.views import Augment, seeded
from discern.errors import InterruptedStageError, ModelError
from discern.models.encoder import ResNetEncoder
from discern.params.training import Base, Optimizer
from discern.training.checkpoint import Checkpoint
from discern.training.device import autocast
from discern.training.objectives import Batch, Objective
from discern.training.progress import TrainingProgress
from discern.training.schedule import Plan, cosine_with_warmup

Row = dict[str, float | None]
LOGGED_POINTS = 100  # rows of a training curve, whatever the number of steps
MONITOR_POINTS = 5  # of them with a kNN figure


@dataclass(frozen=True)
class Run:
    """What a training run needs besides its objective.

    Attributes:
        name: shown beside the progress.
        images: uint8 (images, S, S, 3), in memory or memory-mapped.
        plan: steps and batch size.
        base: precision, optimiser and views.
        size: side of a view in pixels.
        seed: of data order and views.
        device: where it runs.
        checkpoint: where it can go on from.
        on_row: called with every logged row and its step.
        monitor: a figure of the encoder to watch, e.g. kNN on val; may return None.
        stop: asked after every step; True saves a checkpoint and ends the run.
        decoder_lr: Adam's rate for the objective's decoder.
    """

    name: str
    images: NDArray[np.uint8]
    plan: Plan
    base: Base
    size: int
    seed: int
    device: torch.device
    checkpoint: Checkpoint
    on_row: Callable[[Row, int], None]
    monitor: Callable[[ResNetEncoder], float | None]
    stop: Callable[[], bool]
    decoder_lr: float = 1e-4


def train(objective: Objective, run: Run) -> list[Row]:
    """Train to the end of the plan, from a checkpoint where there is one.

    Returns:
        The training curve, one row for each logged step.

    Raises:
        InterruptedStageError: a signal asked to stop; the checkpoint is saved.
        ModelError: the loss is no longer finite.
    """
    plan, device = run.plan, run.device
    objective.to(device).train()
    optimizers = build_optimizers(objective, run.base.optimizer, plan.batch_size, run.decoder_lr)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    augment = Augment(run.base.views, run.size, run.seed, plan.images)
    chance = objective.chance(plan.batch_size)
    rows: list[Row] = []
    window: list[dict[str, Tensor]] = []  # the steps since the last row; tensors, so that no step waits for them
    start = 0
    if state := run.checkpoint.load(device):
        objective.load_state_dict(state["objective"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        start, rows, window = state["step"], state["rows"], state["window"]
    log_every = max(1, plan.steps // LOGGED_POINTS)
    monitor_every = max(1, math.ceil(plan.steps / log_every / MONITOR_POINTS)) * log_every
    began = time.monotonic()

    with TrainingProgress(run.name, plan.steps, start) as progress:
        for step in range(start, plan.steps):
            epoch, position = divmod(step, plan.steps_per_epoch)
            if position == 0 or step == start:
                order = torch.randperm(plan.images, generator=seeded(run.seed, epoch, 100))
            index = order[position * plan.batch_size : (position + 1) * plan.batch_size]
            batch = Batch(load(run.images, index, device), index, epoch, step, plan.steps)

            factor = cosine_with_warmup(step, plan.steps, run.base.optimizer.warmup)
            for optimizer, group_rates in zip(optimizers, rates, strict=True):
                for group, rate in zip(optimizer.param_groups, group_rates, strict=True):
                    group["lr"] = rate * factor
            with autocast(device, run.base.precision):
                terms = objective(batch, augment)
            terms.loss.backward()
            logged = (step + 1) % log_every == 0 or step + 1 == plan.steps
            norm = gradient_norm(objective) if logged else None
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            objective.after_step()

            window.append({"loss": terms.loss.detach(), **{k: v.detach() for k, v in terms.parts.items()}})
            if logged:
                row: Row = {"step": step + 1, "passes": plan.passes_per_image(step + 1), "chance": chance}
                row |= {key: float(torch.stack([w[key] for w in window]).mean()) for key in window[0]}
                window = []
                check_finite(row["loss"], step, run.name)
                row |= {"std": spread(terms.embedding), "lr": rates[0][0] * factor, "grad_norm": norm}
                watched = (step + 1) % monitor_every == 0 or step + 1 == plan.steps
                row["knn"] = run.monitor(objective.encoder) if watched else None
                objective.train()
                rows.append(row)
                speed = (step + 1 - start) * plan.batch_size / (time.monotonic() - began)
                run.on_row({**row, "images_per_s": speed}, step + 1)
                progress.update(step + 1, row["loss"] or 0.0, chance, speed)
            stopping = run.stop()
            if stopping or run.checkpoint.due():
                saved = [optimizer.state_dict() for optimizer in optimizers]
                run.checkpoint.save(
                    {"objective": objective.state_dict(), "optimizers": saved, "step": step + 1, "rows": rows,
                     "window": window}
                )  # fmt: skip
            if stopping:
                raise InterruptedStageError(f"{run.name}: stopped after step {step + 1} of {plan.steps}")
    return rows


def build_optimizers(
    objective: Objective, params: Optimizer, batch_size: int, decoder_lr: float
) -> list[torch.optim.Optimizer]:
    """The encoder's and heads' optimiser, and Adam for the decoder where there is one.

    The learning rate scales linearly with the batch, here and nowhere else. Weight decay leaves biases and
    normalisation alone.
    """
    decoder = {id(p) for p in objective.decoder.parameters()} if objective.decoder is not None else set()
    own = [p for p in objective.parameters() if p.requires_grad and id(p) not in decoder]
    groups = [
        {"params": [p for p in own if p.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in own if p.ndim <= 1], "weight_decay": 0.0},
    ]
    lr = params.lr * batch_size / 256
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(groups, lr=lr, momentum=params.momentum)
        if params.kind == "sgd"
        else torch.optim.AdamW(groups, lr=lr)
    ]
    if objective.decoder is not None:
        optimizers.append(torch.optim.Adam(objective.decoder.parameters(), lr=decoder_lr))
    return optimizers


def load(images: NDArray[np.uint8], index: Tensor, device: torch.device) -> Tensor:
    """Images of these numbers, uint8 (N, 3, H, W) on the device."""
    batch = torch.from_numpy(np.ascontiguousarray(images[index.numpy()]))
    return batch.to(device).permute(0, 3, 1, 2)


def spread(embedding: Tensor) -> float:
    """Mean standard deviation of normalised embeddings (N, d) times sqrt(d): 1 is healthy, 0 is collapse."""
    return float(embedding.float().std(0).mean() * math.sqrt(embedding.shape[1]))


def gradient_norm(objective: Objective) -> float:
    """Euclidean norm of all gradients."""
    gradients = [p.grad for p in objective.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def check_finite(loss: float | None, step: int, name: str) -> None:
    """Stop a run whose loss is lost.

    Raises:
        ModelError: the mean loss since the last row is infinite or not a number.
    """
    if loss is None or not math.isfinite(loss):
        raise ModelError(
            f"{name}: the loss is {loss} at step {step + 1}; lower base.optimizer.lr, or set base.precision: fp32"
        )
