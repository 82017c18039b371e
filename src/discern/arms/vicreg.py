"""VICReg: invariance, variance and covariance of the views' embeddings (Bardes et al. 2022, arXiv 2105.04906)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.ssl.two_sided import TwoSided


class VICReg(TrainedArm):
    """VICReg: near views, spread embeddings, uncorrelated dimensions (Bardes et al. 2022)."""

    kind: Literal["vicreg"]
    invariance: float = Field(gt=0, description="lambda; 25 in the paper")
    variance: float = Field(gt=0, description="mu; 25 in the paper")
    covariance: float = Field(gt=0, description="nu; 1 in the paper")
    hidden: int = Field(ge=8, description="width of the projector's hidden layers")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")


@register(VICReg, "loss")
def vicreg(params: VICReg, setup: Setup) -> "TwoSided":
    """At chance all images have one embedding: only the variance term is left, the square root of its epsilon off.

    lightly's definition, which follows the authors' code; solo-learn's variance term is twice as large.
    """
    from lightly.loss import VICRegLoss
    from lightly.models.modules.heads import VICRegProjectionHead

    from discern.ssl.two_sided import TwoSided

    projector = VICRegProjectionHead(setup.encoder.dim, params.hidden, params.dim)
    loss = VICRegLoss(params.invariance, params.variance, params.covariance)
    return TwoSided(setup.encoder, projector, loss, lambda _: params.variance * (1 - loss.eps**0.5))
