"""PMG: progressive training on jigsaws of falling granularity (Du et al. 2020, arXiv 2003.03836)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.training.pmg import PMGObjective


class PMG(TrainedArm):
    """PMG: sees the labels; each stage learns from jigsaws of its own granularity (Du et al. 2020)."""

    kind: Literal["pmg"]
    width: int = Field(ge=8, multiple_of=2, description="channels that each stage's map is brought to; 1,024")
    encoder_rate: float = Field(gt=0, le=1, description="of the heads' learning rate; 0.1 in the paper")


@register(PMG, "supervised")
def pmg(params: PMG, setup: Setup) -> "PMGObjective":
    """At chance the heads know nothing of the classes: ln(classes), counted twice in every fourth step."""
    from discern.training.pmg import PMGObjective

    assert setup.labels is not None
    return PMGObjective(params, setup.encoder, setup.labels, setup.classes, setup.seed)
