"""Where training takes its synthesized images from: a file made once, or the current encoder."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from discern.data.views import seeded
from discern.synthesis.pairs import Synthesizer

PairSource = Callable[[Tensor, Tensor, int, int], tuple[Tensor, Tensor]]
"""(image numbers (N,), features (N, D), epoch, step) → decoded originals and perturbed (N, 3, R, R)."""


class OfflinePairs:
    """Pairs of synthesize_pairs; every epoch takes one of an image's copies at random.

    Args:
        original: decoded originals, uint8 (images, R, R, 3).
        perturbed: decoded perturbed versions, uint8 (images, copies, R, R, 3).
        seed: of the choice of copies.
        device: where the images are wanted.
    """

    def __init__(
        self, original: NDArray[np.uint8], perturbed: NDArray[np.uint8], seed: int, device: torch.device
    ) -> None:
        self.original, self.perturbed, self.seed, self.device = original, perturbed, seed, device

    def __call__(self, index: Tensor, y: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """uint8 images; neither features nor step matter: they were made once."""
        images, copies = self.perturbed.shape[:2]
        choice = torch.randint(copies, (images,), generator=seeded(self.seed, epoch, 101))
        rows = index.cpu().numpy()
        return self._load(self.original[rows]), self._load(self.perturbed[rows, choice[index.cpu()].numpy()])

    def _load(self, images: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(self.device)


class OnlinePairs:
    """Pairs decoded at every step from the features that the step has computed anyway.

    Args:
        synthesizer: decoder, basis, mask and perturbation; its basis stays that of the base encoder.
        seed: of the perturbation.
    """

    def __init__(self, synthesizer: Synthesizer, seed: int) -> None:
        self.synthesizer, self.seed = synthesizer, seed

    def __call__(self, index: Tensor, y: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Images in [0, 1]."""
        generator = seeded(self.seed, epoch, step, 102)
        with in_eval_mode(self.synthesizer.decoder):
            perturbed = self.synthesizer.decode(self.synthesizer.perturbed(y, index, generator))
            return self.synthesizer.decode(y), perturbed


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
