"""Barlow Twins: the views' embeddings correlate dimension by dimension (Zbontar et al. 2021, arXiv 2103.03230)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.ssl.two_sided import TwoSided


class BarlowTwins(TrainedArm):
    """Barlow Twins: the views' cross-correlation matrix is driven to the identity (Zbontar et al. 2021)."""

    kind: Literal["barlow_twins"]
    redundancy: float = Field(gt=0, description="lambda: weight of the off-diagonal terms")
    hidden: int = Field(ge=8, description="width of the projector's two hidden layers")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")


@register(BarlowTwins, "loss")
def barlow_twins(params: BarlowTwins, setup: Setup) -> "TwoSided":
    """At chance the views are unrelated, and every correlation of a batch of N has variance 1 / N."""
    from lightly.loss import BarlowTwinsLoss
    from lightly.models.modules import BarlowTwinsProjectionHead

    from discern.ssl.two_sided import TwoSided

    def chance(batch: int) -> float:
        return params.dim * (1 + (1 + params.redundancy * (params.dim - 1)) / batch)

    projector = BarlowTwinsProjectionHead(setup.encoder.dim, params.hidden, params.dim)
    return TwoSided(setup.encoder, projector, BarlowTwinsLoss(params.redundancy), chance)
