"""L_C + alpha L_R + nu L_Cp: training that also learns from synthesized pairs."""

import torch.nn.functional as F
from torch import Tensor

from discern.images.views import Augment, normalise
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.models.decoder import ImageDecoder
from discern.params.synthesis import TrainEncoder
from discern.synthesis.pairs.sources import PairSource, frozen_statistics
from discern.synthesis.reconstruction import ReconstructionObjective
from discern.training.objective import Batch, Terms
from discern.training.schedule import linear_rise


class PairObjective(ReconstructionObjective):
    """L_C + alpha L_R + nu L_Cp: also invariant across each synthesized pair.

    The real view of a `real` pair is the first view of L_C: its features are there already, so that a pair costs
    one encoder pass, of the synthesized image.

    Args:
        method: L_C and L_Cp.
        decoder: d; only trained when alpha is above zero.
        source: where synthesized images come from.
        params: nu, alpha and the kind of pair.
        size: side of a view in pixels.
        decoder_lr: Adam's rate for the decoder.
    """

    def __init__(
        self,
        method: JointEmbedding,
        decoder: ImageDecoder,
        source: PairSource,
        params: TrainEncoder,
        size: int,
        decoder_lr: float = 1e-4,
    ) -> None:
        super().__init__(method, decoder, params.reconstruction_weight, decoder_lr=decoder_lr)
        self.source, self.params, self.size = source, params, size
        self.resident = source.resident
        # A synthesized image counts as a pass; without the pair loss none is made.
        self.passes += {"real": 1, "reconstructed": 2}[params.pair] if params.pair_weight > 0 else 0

    def fetch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:
        """Synthesized images that were made before, where there are."""
        return self.source.fetch(index, epoch) if self.params.pair_weight > 0 else {}

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """Two views, and a synthesized image for every image."""
        y, terms = self.reconstructed(batch, augment)
        if self.params.pair_weight == 0:
            return terms
        images = self.source(batch, y.detach())
        with frozen_statistics(self.method, self.params.batch_norm == "separate"):
            anchor = y
            if self.params.pair == "reconstructed":
                assert images.original is not None
                anchor = self.encoder(self._view(images.original, batch, augment, 2))
            target = self.method.target(self._view(images.perturbed, batch, augment, 3))
        pair = self.method.contrast(anchor, target)
        weight = self.params.pair_weight * linear_rise(batch.step, batch.steps, self.params.warmup)
        return Terms(terms.loss + weight * pair, {**terms.parts, "pair": pair}, terms.embedding)

    def _view(self, images: Tensor, batch: Batch, augment: Augment, view: int) -> Tensor:
        """Synthesized images (N, 3, R, R) as normalised views (N, 3, size, size)."""
        if self.params.augment:
            return augment(images, batch.index, batch.epoch, view)
        return F.interpolate(normalise(images), size=self.size, mode="bilinear", antialias=True)
