"""Colourisation as a pretext task, in its form as a classification (Zhang et al. 2016, arXiv 1603.08511)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.pretext.colorization import ColorizationObjective


class Colorization(TrainedArm):
    """Colourisation: which colours the grey image had (Zhang et al. 2016)."""

    kind: Literal["colorization"]
    width: int = Field(ge=8, description="channels of the decoder")
    blocks: int = Field(
        ge=1,
        description="convolutions of the decoder, each at up to twice the resolution of the one before;"
        " the last one at a quarter of the image's",
    )


@register(Colorization, "self_supervised")
def colorization(params: Colorization, setup: Setup) -> "ColorizationObjective":
    """At chance every colour that there is, of 261, is as likely: ln(261)."""
    from discern.pretext.colorization import ColorizationObjective

    return ColorizationObjective(params, setup.encoder)
