"""Training from given weights without forgetting them: each remedy is a parameter of base.adaptation."""

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.errors import ParamsError
from discern.images.views import Augment
from discern.models.encoder import ImageEncoder
from discern.models.lora import add_low_rank, merge_low_rank
from discern.models.precision import full
from discern.models.side_by_side import side_by_side
from discern.params.base import Adaptation
from discern.training.objective import Batch, Objective, Terms


def prepare(encoder: ImageEncoder, params: Adaptation) -> None:
    """Fix what is to stay, before a method is built around the encoder.

    Raises:
        ParamsError: the encoder has no stages to fix, or fewer, or no attention for low-rank updates.
    """
    if params.lora_rank:
        add_low_rank(encoder, params.lora_rank)
    if params.fixed_stages:
        stages = encoder.depths(coarse=True)
        if params.fixed_stages > max(stages.values(), default=0):
            raise ParamsError(
                f"base.adaptation.fixed_stages = {params.fixed_stages}: the encoder has"
                f" {max(stages.values(), default=-1) + 1} stages, and one has to train"
            )
        for name, parameter in encoder.named_parameters():
            if stages[name] < params.fixed_stages:
                parameter.requires_grad_(False)
    for norm in batch_norms(encoder):
        norm.momentum = params.batch_norm_momentum


def batch_norms(encoder: nn.Module) -> Iterator[nn.modules.batchnorm._BatchNorm]:
    """Every batch normalisation inside."""
    return (m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


class Adapted(Objective):
    """Another objective, trained from given weights with what keeps them from being forgotten.

    Args:
        inner: trains `inner.encoder`, which went through `prepare`.
        params: which remedies.
        start: f_0, the encoder with the given weights; not changed.
    """

    def __init__(self, inner: Objective, params: Adaptation, start: ImageEncoder) -> None:
        super().__init__()
        self.inner, self.encoder, self.params = inner, inner.encoder, params
        self.passes = inner.passes * (2 if params.distillation else 1)
        self.rate, self.adam_lr, self.resident = inner.rate, inner.adam_lr, inner.resident
        self.encoder_rate = min(inner.encoder_rate, params.encoder_rate)
        self.layer_rates = layer_rates(self.encoder, params.layer_decay)
        # Out of state and optimiser: these are not trained. A list keeps torch from registering it.
        self._start = [start.requires_grad_(False).eval()]
        self.averaged = copy.deepcopy(self.encoder).requires_grad_(False) if params.average else None

    @property
    def start(self) -> ImageEncoder:
        """f_0, where the encoder's weights lie and in their type."""
        weight = next(self.encoder.parameters())
        return self._start[0].to(weight.device, weight.dtype)

    @property
    def adam(self) -> nn.Module | None:
        """As the inner one."""
        return self.inner.adam

    def train(self, mode: bool = True) -> "Adapted":
        """Training mode, but for normalisation that keeps its statistics."""
        super().train(mode)
        if self.averaged is not None:
            self.averaged.eval()
        for norm in batch_norms(self.encoder):
            fixed = self.params.batch_norm_momentum == 0 or not any(p.requires_grad for p in norm.parameters())
            norm.train(mode and not fixed)
        return self

    def fetch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:
        """As the inner one."""
        return self.inner.fetch(index, epoch)

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """The inner losses, and the distance of features from those of the given weights."""
        if not self.params.distillation:
            terms: Terms = self.inner(batch, augment)
            return terms
        seen: list[tuple[Tensor, Tensor]] = []
        watch = self.encoder.register_forward_hook(lambda _module, inputs, y: seen.append((inputs[0], y)))
        try:
            terms = self.inner(batch, augment)
        finally:
            watch.remove()
        start = self.start
        distances = []
        for x, y in seen:
            if y.requires_grad:  # not those that are targets only
                with torch.no_grad():
                    wanted = start(x)
                distances.append(1 - F.cosine_similarity(full(y), full(wanted)).mean())
        distance = torch.stack(distances).mean()
        loss = terms.loss + self.params.distillation * distance
        return Terms(loss, terms.parts | {"distillation": distance}, terms.embedding)

    def chance(self, batch_size: int) -> float | None:
        """As the inner one."""
        return self.inner.chance(batch_size)

    @torch.no_grad()
    def after_step(self) -> None:
        """Follow the encoder with the averaged one."""
        self.inner.after_step()
        if self.averaged is not None:
            for kept, new in zip(_tensors(self.averaged), _tensors(self.encoder), strict=True):
                if kept.is_floating_point():
                    kept.lerp_(new, 1 - self.params.average)
                else:
                    kept.copy_(new)

    def leave(self, folder: Path, val_images: npt.NDArray[np.uint8], device: torch.device) -> dict[str, float]:
        """As the inner one."""
        return self.inner.leave(folder, val_images, device)

    @torch.no_grad()
    def kept(self) -> ImageEncoder:
        """The average of weights where one is kept, with its share of the given ones, beside the given encoder."""
        encoder = self.encoder if self.averaged is None else self.averaged
        merge_low_rank(encoder)
        start = self.start
        if self.params.start_share:
            for new, given in zip(_tensors(encoder), _tensors(start), strict=True):
                if new.is_floating_point():
                    new.lerp_(given, self.params.start_share)
        return side_by_side(start, encoder) if self.params.side_by_side and self.inner.free else encoder


def layer_rates(encoder: ImageEncoder, decay: float) -> dict[nn.Parameter, float]:
    """decay^(blocks above) of every parameter.

    Raises:
        ParamsError: a decay is wanted of an encoder whose blocks are not known.
    """
    if decay == 1:
        return {}
    depths = encoder.depths(coarse=False)
    if not depths:
        raise ParamsError("base.adaptation.layer_decay: this encoder has no order of blocks; write 1")
    last = max(depths.values())
    return {p: decay ** (last - depths[_original(name)]) for name, p in encoder.named_parameters()}


def _original(name: str) -> str:
    """A parameter's name without what a low-rank update puts into it."""
    head, found, _ = name.partition(".parametrizations.weight.")
    return f"{head}.weight" if found else name


def _tensors(encoder: nn.Module) -> Iterator[Tensor]:
    yield from encoder.parameters()
    yield from encoder.buffers()
