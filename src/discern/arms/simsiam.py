"""SimSiam: predict the other view's projection, with nothing else (Chen & He 2021, arXiv 2011.10566)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.ssl.predictive import Predictive


class SimSiam(TrainedArm):
    """SimSiam: predict the other view's embedding; its gradient is stopped (Chen & He 2021)."""

    kind: Literal["simsiam"]
    hidden: int = Field(ge=8, description="width of the predictor's hidden layer")
    dim: int = Field(ge=8, description="width of the projector's layers and of the embedding")


@register(SimSiam, "loss")
def simsiam(params: SimSiam, setup: Setup) -> "Predictive":
    """Minus the cosine similarity; 0 for unrelated vectors, -1 for equal ones."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead

    from discern.ssl.predictive import Predictive

    projector = SimSiamProjectionHead(setup.encoder.dim, params.dim, params.dim)
    predictor = SimSiamPredictionHead(params.dim, params.hidden, params.dim)
    return Predictive(setup.encoder, projector, predictor, NegativeCosineSimilarity(), chance=0.0)
