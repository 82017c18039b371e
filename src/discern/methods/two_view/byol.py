"""BYOL: predict a momentum encoder's projection of the other view (Grill et al. 2020, arXiv 2006.07733)."""

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead

from discern.methods.build import Setup
from discern.methods.parts.predictive import Predictive
from discern.params.two_view import BYOL


def build(params: BYOL, setup: Setup) -> Predictive:
    """Squared distance of unit vectors, 2 - 2 cos: 2 for unrelated vectors, 0 for equal ones."""
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
