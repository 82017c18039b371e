"""SimSiam: predict the other view's projection, with nothing else (Chen & He 2021, arXiv 2011.10566)."""

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead

from discern.methods.build import Setup
from discern.methods.parts.predictive import Predictive
from discern.params.two_view import SimSiam


def build(params: SimSiam, setup: Setup) -> Predictive:
    """Minus the cosine similarity; 0 for unrelated vectors, -1 for equal ones."""
    projector = SimSiamProjectionHead(setup.encoder.dim, params.dim, params.dim)
    predictor = SimSiamPredictionHead(params.dim, params.hidden, params.dim)
    return Predictive(setup.encoder, projector, predictor, NegativeCosineSimilarity(), chance=0.0)
