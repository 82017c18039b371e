"""The floor: an encoder as it comes from its initialisation."""

from typing import TYPE_CHECKING, Literal

from discern.arms.registry import Setup, register
from discern.params.model import ParamModel

if TYPE_CHECKING:
    from discern.models.encoder import ImageEncoder


class RandomInit(ParamModel):
    """An encoder that was never trained: the floor."""

    kind: Literal["random_init"]


@register(RandomInit, "untrained")
def random_init(params: RandomInit, setup: Setup) -> "ImageEncoder":  # noqa: ARG001  # it has none
    """The encoder itself, with random weights."""
    from discern.models.encoder import build_encoder

    return build_encoder(setup.encoder.params, setup.seed)
