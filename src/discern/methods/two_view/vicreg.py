"""VICReg: invariance, variance and covariance of the views' embeddings (Bardes et al. 2022, arXiv 2105.04906)."""

from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead

from discern.methods.build import Setup
from discern.methods.parts.two_sided import TwoSided
from discern.params.two_view import VICReg


def build(params: VICReg, setup: Setup) -> TwoSided:
    """At chance all images have one embedding: only the variance term is left, the square root of its epsilon off.

    lightly's definition, which follows the authors' code; solo-learn's variance term is twice as large.
    """
    projector = VICRegProjectionHead(setup.encoder.dim, params.hidden, params.dim)
    loss = VICRegLoss(params.invariance, params.variance, params.covariance)
    return TwoSided(setup.encoder, projector, loss, lambda _: params.variance * (1 - loss.eps**0.5))
