"""The ceiling of given weights: an encoder that others trained, frozen."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from discern.arms.registry import Setup, register
from discern.params.model import ParamModel

if TYPE_CHECKING:
    from discern.models.encoder import ImageEncoder


def _given(weights: str) -> str:
    if weights in ("", "none"):
        raise ValueError("an encoder without given weights is the arm random_init")
    return weights


class Pretrained(ParamModel):
    """An encoder with given weights, frozen: not trained on this data set."""

    kind: Literal["pretrained"]
    weights: Annotated[str, AfterValidator(_given)] = Field(
        description="imagenet1k_v1 (torchvision's, which saw ImageNet labels) or a .safetensors, .pth or .pt file"
    )


@register(Pretrained, "untrained")
def pretrained(params: Pretrained, setup: Setup) -> "ImageEncoder":
    """The network of `base` with these weights."""
    from discern.models.encoder import build_encoder
    from discern.models.pretrained import initialise

    encoder = build_encoder(setup.encoder.params, setup.seed)
    initialise(encoder, params.weights)
    return encoder
