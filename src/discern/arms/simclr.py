"""SimCLR: NT-Xent between two views of every image (Chen et al. 2020, arXiv 2002.05709)."""

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.ssl.two_sided import TwoSided


class NTXent(TrainedArm):
    """What every arm with SimCLR's head and loss has."""

    temperature: float = Field(gt=0)
    hidden: int = Field(ge=8, description="width of the projector's hidden layer")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")


class SimCLR(NTXent):
    """SimCLR: NT-Xent between two views (Chen et al. 2020)."""

    kind: Literal["simclr"]


@register(SimCLR, "loss")
def simclr(params: NTXent, setup: Setup) -> "TwoSided":
    """At chance every other embedding is as near as the right one."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    from discern.ssl.two_sided import TwoSided

    projector = SimCLRProjectionHead(setup.encoder.dim, params.hidden, params.dim)
    # It gathers the embeddings of all processes itself, and compares only its own with them.
    loss = NTXentLoss(temperature=params.temperature, gather_distributed=True)
    return TwoSided(setup.encoder, projector, loss, lambda batch: math.log(2 * batch - 1), gathers=True)
