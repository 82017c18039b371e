"""Encoders that are not trained: what training has to beat."""

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from discern.params.encoder import HistogramHOG, RawPixels
from discern.params.model import FloorMethod
from discern.params.pretext import SRGANNetworks


def _given(weights: str) -> str:
    if weights in ("", "none"):
        raise ValueError("an encoder without given weights is the method random_init")
    return weights


class RandomInit(FloorMethod):
    """An encoder that was never trained: the floor."""

    built_by: ClassVar[str] = "discern.methods.floors.random_init"
    kind: Literal["random_init"]


class Pretrained(FloorMethod):
    """An encoder with given weights, frozen: not trained on this data set."""

    built_by: ClassVar[str] = "discern.methods.floors.pretrained"
    kind: Literal["pretrained"]
    weights: Annotated[str, AfterValidator(_given)] = Field(
        description="imagenet1k_v1 (torchvision's, which saw ImageNet labels) or a .safetensors, .pth or .pt file"
    )


class RawPixelsFloor(RawPixels, FloorMethod):
    """The image itself, small: no network."""

    built_by: ClassVar[str] = "discern.methods.floors.raw_pixels"


class HistogramHOGFloor(HistogramHOG, FloorMethod):
    """Colour histogram and histogram of oriented gradients: no network."""

    built_by: ClassVar[str] = "discern.methods.floors.histogram_hog"


class SRGANUntrained(SRGANNetworks, FloorMethod):
    """SRGAN's networks as they come from their initialisation: the control that its figures are read against."""

    built_by: ClassVar[str] = "discern.methods.pretext.srgan.untrained"
    kind: Literal["srgan_untrained"]


Floor = Annotated[
    HistogramHOGFloor | Pretrained | RandomInit | RawPixelsFloor | SRGANUntrained,
    Field(discriminator="kind"),
]
