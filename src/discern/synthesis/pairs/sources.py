"""Where training takes its synthesized images from: a file made once, or the current encoder."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from discern.images.loading import ImageStore
from discern.images.randomness import Stream, seeded, uniform
from discern.synthesis.pairs.decoding import Synthesizer
from discern.training.objective import Batch


@dataclass(frozen=True)
class PairImages:
    """Synthesized images of one batch, each (N, 3, R, R): uint8, or float in [0, 1].

    Attributes:
        perturbed: decoded from perturbed features.
        original: decoded from the features as they are; None where pairs are made with real views.
    """

    perturbed: Tensor
    original: Tensor | None


class PairSource(Protocol):
    """Where pairs come from.

    Attributes:
        resident: False where `fetch` reads from a disk.
    """

    resident: bool

    def fetch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:
        """What can be loaded ahead of the step for images of these numbers (N,)."""
        ...

    def __call__(self, batch: Batch, y: Tensor) -> PairImages:
        """The pairs of a batch with features y (N, D)."""
        ...


class OfflinePairs:
    """Pairs of synthesize_pairs; every epoch takes one of an image's copies at random.

    Args:
        perturbed: decoded perturbed versions (images * copies, R, R, 3), the copies of an image side by side.
        copies: how many.
        original: decoded originals (images, R, R, 3); None where pairs are made with real views.
        seed: of the choice of copies.
    """

    def __init__(self, perturbed: ImageStore, copies: int, original: ImageStore | None, seed: int) -> None:
        self.perturbed, self.copies, self.original, self.seed = perturbed, copies, original, seed
        self.resident = perturbed.resident and (original is None or original.resident)

    def fetch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:
        """uint8 images of this epoch's copies."""
        choice = (uniform(index, 1, self.seed, epoch, Stream.PAIR_COPY)[:, 0] * self.copies).long()  # (N,)
        images = {"perturbed": _upright(self.perturbed.take(index * self.copies + choice))}
        if self.original is not None:
            images["original"] = _upright(self.original.take(index))
        return images

    def __call__(self, batch: Batch, y: Tensor) -> PairImages:  # noqa: ARG002  # they were made from older features
        """What was fetched."""
        return PairImages(batch.extra["perturbed"], batch.extra.get("original"))


class OnlinePairs:
    """Pairs decoded at every step from the features that the step has computed anyway.

    Args:
        synthesizer: decoder, basis, mask and perturbation; its basis stays that of the base encoder.
        originals: False where pairs are made with real views: nothing is decoded for them.
        seed: of the perturbation.
    """

    resident = True

    def __init__(self, synthesizer: Synthesizer, originals: bool, seed: int) -> None:
        self.synthesizer, self.originals, self.seed = synthesizer, originals, seed

    def fetch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:  # noqa: ARG002  # nothing is made before
        """Nothing."""
        return {}

    def __call__(self, batch: Batch, y: Tensor) -> PairImages:
        """Images in [0, 1]; partners of a swap come from the same part of the batch."""
        # The first image's number tells the parts of one step apart, in any process.
        generator = seeded(self.seed, batch.epoch, batch.step, int(batch.index[0]), Stream.ONLINE_PAIRS)
        with in_eval_mode(self.synthesizer.decoder):
            perturbed = self.synthesizer.decode(self.synthesizer.perturbed(y, batch.index, generator))
            return PairImages(perturbed, self.synthesizer.decode(y) if self.originals else None)


def _upright(images: Tensor) -> Tensor:
    """(N, R, R, 3) to (N, 3, R, R)."""
    return images.permute(0, 3, 1, 2)


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Running statistics are used and left alone inside the block."""
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)


@contextmanager
def _without_momentum(module: nn.Module) -> Iterator[None]:
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def frozen_statistics(module: nn.Module, enabled: bool) -> AbstractContextManager[None]:
    """Batches inside are normalised by their own statistics and leave no trace in the running ones.

    Synthesized images are blurry, a domain of their own; photographs are what the encoder will meet.
    """
    return _without_momentum(module) if enabled else nullcontext()
