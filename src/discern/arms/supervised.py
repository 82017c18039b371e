"""The reference that sees the labels: cross-entropy."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import ParamModel

if TYPE_CHECKING:
    from discern.training.objectives import SupervisedObjective


class Supervised(ParamModel):
    """Cross-entropy on the labels: the reference that sees them."""

    kind: Literal["supervised"]
    label_smoothing: Annotated[float, Field(ge=0, le=1)]


@register(Supervised, "supervised")
def supervised(params: Supervised, setup: Setup) -> "SupervisedObjective":
    """A linear head on the encoder; at chance it knows nothing of the classes: ln(classes)."""
    from discern.training.objectives import SupervisedObjective

    assert setup.labels is not None
    return SupervisedObjective(setup.encoder, setup.labels, setup.classes, params.label_smoothing)
