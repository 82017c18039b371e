"""Decoding original and perturbed features into images."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.images.randomness import Stream, seeded
from discern.images.views import denormalise, to_uint8
from discern.models.decoder import ImageDecoder
from discern.params.synthesis import Perturbation
from discern.synthesis.criteria.basis import Basis
from discern.synthesis.pairs.perturbation import perturb


@dataclass(frozen=True)
class Synthesizer:
    """Everything that turns features into perturbed images.

    Attributes:
        decoder: d.
        basis: of the perturbed coefficients.
        mask: (D,) or (images, D); True where a coefficient may change.
        perturbation: what takes its place.
    """

    decoder: ImageDecoder
    basis: Basis
    mask: Tensor
    perturbation: Perturbation

    @torch.no_grad()
    def perturbed(self, y: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
        """Features y~ (N, D): y with the masked coefficients changed.

        Args:
            y: pooled features (N, D).
            index: image numbers (N,), for masks of their own.
            generator: on the CPU.
        """
        mask = (self.mask if self.mask.ndim == 1 else self.mask[index.cpu()]).to(y.device)
        c = perturb(self.basis.coefficients(y), mask, self.basis, self.perturbation, generator)
        return self.basis.features(c, y.norm(dim=1, keepdim=True))

    @torch.no_grad()
    def decode(self, y: Tensor) -> Tensor:
        """Images (N, 3, R, R) in [0, 1], without gradient: the decoder must not learn to ignore the mask."""
        return denormalise(self.decoder(y))


def synthesize(
    synthesizer: Synthesizer, y: Tensor, copies: int, seed: int, batch_size: int = 256
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Decoded originals and perturbed versions of a whole training set.

    Args:
        synthesizer: its decoder in eval mode, on the device of `y`.
        y: pooled features (N, D); partners of a swap come from all of them.
        copies: perturbed versions of every image.
        seed: of the perturbation.
        batch_size: images decoded at once.

    Returns:
        uint8 originals (N, R, R, 3) and perturbed versions (N, copies, R, R, 3).
    """
    index = torch.arange(len(y))

    def decode(features: Tensor) -> NDArray[np.uint8]:
        return np.concatenate(
            [to_uint8(synthesizer.decode(part)).numpy() for part in torch.split(features, batch_size)]
        )

    versions = [
        decode(synthesizer.perturbed(y, index, seeded(seed, copy, Stream.OFFLINE_PAIRS))) for copy in range(copies)
    ]
    return decode(y), np.stack(versions, axis=1)
