"""LCR: MoCo v2 and a branch that learns where its loss looks (Shu et al., CVPR 2023)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.moco import check_queue
from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.ssl.lcr import LCRObjective


class LCR(TrainedArm):
    """LCR: MoCo v2 with a branch, fitted to its loss's Grad-CAM, that weighs the features (Shu et al. 2023)."""

    kind: Literal["lcr"]
    temperature: float = Field(gt=0)
    hidden: int = Field(ge=8, description="width of the projector's hidden layer")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")
    queue: int = Field(ge=8, description="keys kept; at most the number of training images")
    momentum: float = Field(ge=0, lt=1, description="of the key encoder, per step")
    allow_long_queue: bool = Field(description="true: accept a queue longer than the training set")
    projections: int = Field(ge=1, description="1x1 filters whose maximum is the attention; 32 in its code")
    fitting_weight: float = Field(ge=0, description="of the KL divergence between the maps; 0.01 in its code")


@register(LCR, "self_supervised")
def lcr(params: LCR, setup: Setup) -> "LCRObjective":
    """At chance as MoCo: ln(K + 1)."""
    from discern.ssl.lcr import LCRObjective

    check_queue(params.queue, setup.images, params.allow_long_queue)
    return LCRObjective(params, setup.encoder)
