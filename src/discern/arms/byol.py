"""BYOL: predict a momentum encoder's projection of the other view (Grill et al. 2020, arXiv 2006.07733)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.ssl.predictive import Predictive


class BYOL(TrainedArm):
    """BYOL: predict a momentum encoder's embedding of the other view (Grill et al. 2020)."""

    kind: Literal["byol"]
    hidden: int = Field(ge=8, description="width of the projector's and predictor's hidden layers")
    dim: int = Field(ge=8, description="width of the embedding")
    momentum: float = Field(ge=0, lt=1, description="of the target encoder, per step; constant")


@register(BYOL, "loss")
def byol(params: BYOL, setup: Setup) -> "Predictive":
    """Squared distance of unit vectors, 2 - 2 cos: 2 for unrelated vectors, 0 for equal ones."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead

    from discern.ssl.predictive import Predictive

    projector = BYOLProjectionHead(setup.encoder.dim, params.hidden, params.dim)
    predictor = BYOLPredictionHead(params.dim, params.hidden, params.dim)
    cosine = NegativeCosineSimilarity()
    return Predictive(
        setup.encoder,
        projector,
        predictor,
        lambda p, z: 2 + 2 * cosine(p, z),
        chance=2.0,
        momentum=params.momentum,
    )
