"""MoCo v2: InfoNCE against a queue of keys from a momentum encoder (Chen et al. 2020, arXiv 2003.04297)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.errors import ParamsError
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.ssl.moco import MoCoMethod


class Queue(TrainedArm):
    """What every loss against a queue of momentum-encoded keys has."""

    temperature: float = Field(gt=0)
    hidden: int = Field(ge=8, description="width of the projector's hidden layer")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")
    batch_norm: bool = Field(description="in the projector; false in MoCo v2, true in v3")
    queue: int = Field(ge=8, description="keys kept; at most the number of training images")
    momentum: float = Field(ge=0, lt=1, description="of the key encoder, per step")
    allow_long_queue: bool = Field(description="true: accept a queue longer than the training set")


class MoCo(Queue):
    """MoCo v2: InfoNCE against a queue of momentum-encoded keys (Chen et al. 2020)."""

    kind: Literal["moco"]


def check_queue(params: Queue, images: int) -> None:
    """Refuse a queue longer than the training set.

    Raises:
        ParamsError: it is, and nobody allowed it: an image would be its own negative.
    """
    if params.queue > images and not params.allow_long_queue:
        raise ParamsError(
            f"params.yaml: queue = {params.queue} is longer than the training set ({images} images): every image"
            " would be its own negative; shorten it, or set allow_long_queue: true"
        )


@register(MoCo, "loss")
def moco(params: MoCo, setup: Setup) -> "MoCoMethod":
    """At chance no key is nearer than another: ln(K + 1)."""
    from discern.ssl.moco import MoCoMethod

    check_queue(params, setup.images)
    return MoCoMethod(params, setup.encoder)
