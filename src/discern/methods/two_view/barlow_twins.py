"""Barlow Twins: the views' embeddings correlate dimension by dimension (Zbontar et al. 2021, arXiv 2103.03230)."""

from lightly.loss import BarlowTwinsLoss
from lightly.models.modules import BarlowTwinsProjectionHead

from discern.methods.build import Setup
from discern.methods.parts.two_sided import TwoSided
from discern.params.two_view import BarlowTwins


def build(params: BarlowTwins, setup: Setup) -> TwoSided:
    """At chance the views are unrelated, and every correlation of a batch of N has variance 1 / N."""

    def chance(batch: int) -> float:
        return params.dim * (1 + (1 + params.redundancy * (params.dim - 1)) / batch)

    projector = BarlowTwinsProjectionHead(setup.encoder.dim, params.hidden, params.dim)
    return TwoSided(setup.encoder, projector, BarlowTwinsLoss(params.redundancy), chance)
