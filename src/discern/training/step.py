"""One training step: forward, backward and update, with nothing in it that waits for the device."""

import copy
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from discern.images.views import Augment
from discern.models.batch_norm import synchronise
from discern.models.encoder import ImageEncoder
from discern.params.base import Base
from discern.settings import settings
from discern.training.device import autocast, effective_precision
from discern.training.distributed import World
from discern.training.health import spread
from discern.training.objective import Batch, Objective
from discern.training.optimizers import Optimizers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a step leaves behind; tensors, so that nobody waits for them.

    Attributes:
        losses: mean of `loss` and of its terms, by name.
        embedding: of the last part of the batch (N, d), normalised.
        norm: Euclidean norm of all gradients before clipping; None where nobody asked.
        lr: the encoder's learning rate.
    """

    losses: dict[str, Tensor]
    embedding: Tensor
    norm: Tensor | None
    lr: float

    def figures(self) -> dict[str, float | None]:
        """`std`, `lr` and `grad_norm`; asking waits for the device."""
        norm = None if self.norm is None else float(self.norm)
        return {"std": spread(self.embedding), "lr": self.lr, "grad_norm": norm}


class TrainingStep:
    """Forward, backward and update.

    Args:
        objective: trained in place; moved to the world's device.
        base: precision, views, optimiser, accumulation.
        size: side of a view in pixels.
        seed: of the views.
        batch_size: images of one step, over all processes.
        world: the processes.
    """

    def __init__(
        self,
        objective: Objective,
        base: Base,
        size: int,
        seed: int,
        batch_size: int,
        world: World,
    ) -> None:
        self.objective, self.base, self.world = objective, base, world
        if base.sync_batch_norm and world.size > 1:
            synchronise(objective, world.device)
        part = batch_size // (world.size * base.accumulate)
        compile_encoders(objective.to(world.device).train(), part, size, base.precision)
        self.model = world.share(objective)
        self.optimizers = Optimizers(objective, base.optimizer, batch_size)
        precision = effective_precision(world.device, base.precision)
        views = torch.bfloat16 if precision == "bf16" else torch.float32
        self.augment = Augment(base.views, size, seed, views)

    def __call__(self, batch: Batch, with_norm: bool = False) -> Outcome:
        """Take one step on this process's part of a batch."""
        if settings().compile == "graphs":
            # What the last step left behind may be written over.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]  # torch gives it no types
        lr = self.optimizers.schedule(batch.step, batch.steps)
        parts = batch.split(self.base.accumulate)
        seen: list[dict[str, Tensor]] = []
        for number, part in enumerate(parts, 1):
            with self.world.unshared(self.model, enabled=number < len(parts)):
                with autocast(self.world.device, self.base.precision):
                    terms = self.model(part, self.augment)
                self.world.backward(terms.loss / len(parts))
            seen.append({"loss": terms.loss.detach(), **{k: v.detach() for k, v in terms.parts.items()}})
        norm = self._norm(with_norm)
        self.optimizers.step()
        self.objective.after_step()
        losses = {name: torch.stack([part[name] for part in seen]).mean() for name in seen[0]}
        return Outcome(losses, terms.embedding, norm, lr)

    def uncompiled(self) -> AbstractContextManager[object]:
        """Inside, compiled encoders run as they are: batches of other shapes would each be compiled anew."""
        return nullcontext() if settings().compile == "none" else torch.compiler.set_stance("force_eager")

    def _norm(self, wanted: bool) -> Tensor | None:
        """The norm of all gradients, which are clipped where the parameters say so."""
        limit = self.base.optimizer.clip
        if not (limit or wanted):
            return None
        parameters = [p for p in self.objective.parameters() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if limit:
            torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
        return norm


def compile_encoders(objective: Objective, batch_size: int, size: int, precision: str) -> None:
    """Compile the objective's encoders as the settings ask; where that fails, say so and go on without.

    A copy is tried first, so that a failure leaves no trace in weights or running statistics.
    """
    mode = settings().compile
    if mode == "none":
        return
    options = {"mode": "reduce-overhead" if mode == "graphs" else None, "dynamic": False}
    device = next(objective.parameters()).device
    trial = copy.deepcopy(objective.encoder)
    trial.compile(**options)
    try:
        with autocast(device, precision):
            trial(torch.randn(2 * batch_size, 3, size, size, device=device)).sum().backward()
    except Exception as error:  # whatever the compiler or its tool chain fails with, training can go on
        reason = str(error).strip().partition("\n")[0]
        log.warning("DISCERN_COMPILE=%s does not work here, going on without it: %s", mode, reason)
        return
    for module in objective.modules():
        if isinstance(module, ImageEncoder):
            module.compile(**options)
