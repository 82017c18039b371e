"""The reference that sees the labels: cross-entropy."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.training.objectives import SupervisedObjective


class Supervised(TrainedArm):
    """Cross-entropy on the labels: the reference that sees them."""

    kind: Literal["supervised"]
    weights: str = Field(description="to start from, instead of base.weights; none: from scratch")
    label_smoothing: Annotated[float, Field(ge=0, le=1)]


@register(Supervised, "supervised")
def supervised(params: Supervised, setup: Setup) -> "SupervisedObjective":
    """A linear head on the encoder; at chance it knows nothing of the classes: ln(classes)."""
    from discern.models.encoder import build_encoder
    from discern.models.pretrained import initialise
    from discern.training.objectives import SupervisedObjective

    assert setup.labels is not None
    encoder = build_encoder(setup.encoder.params, setup.seed)
    initialise(encoder, params.weights)
    return SupervisedObjective(encoder, setup.labels, setup.classes, params.label_smoothing)
