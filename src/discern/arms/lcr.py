"""LCR: MoCo v2 and a branch that learns where its loss looks (Shu et al., CVPR 2023)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.moco import Queue, check_queue
from discern.arms.registry import Setup, register

if TYPE_CHECKING:
    from discern.ssl.lcr import LCRObjective


class LCR(Queue):
    """LCR: MoCo v2 with a branch, fitted to its loss's Grad-CAM, that weighs the features (Shu et al. 2023)."""

    kind: Literal["lcr"]
    projections: int = Field(ge=1, description="1x1 filters whose maximum is the attention; 32 in its code")
    fitting_weight: float = Field(ge=0, description="of the KL divergence between the maps; 0.01 in its code")


@register(LCR, "self_supervised")
def lcr(params: LCR, setup: Setup) -> "LCRObjective":
    """At chance as MoCo: ln(K + 1)."""
    from discern.ssl.lcr import LCRObjective

    check_queue(params, setup.images)
    return LCRObjective(params, setup.encoder)
