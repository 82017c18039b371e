"""Encoders that are not trained: what training has to beat."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from discern.params.encoder import HistogramHOG, RawPixels
from discern.params.model import FloorMethod, Fraction
from discern.params.pretext import SRGANNetworks


def _given(weights: str) -> str:
    if weights in ("", "none"):
        raise ValueError("an encoder without given weights is the method random_init")
    return weights


class RandomInit(FloorMethod):
    """An encoder that was never trained: the floor."""

    built_by: ClassVar[str] = "discern.methods.floors.random_init"
    kind: Literal["random_init"]


class Frozen(FloorMethod):
    """Given weights, frozen: what training on one's own photographs has to beat."""

    built_by: ClassVar[str] = "discern.methods.floors.frozen"
    kind: Literal["frozen"]
    weights: Annotated[str, AfterValidator(_given)] = Field(
        description="base: those of base.weights; or any other that base.weights may name but none"
    )
    components: list[Annotated[int, Field(ge=0)]] = Field(
        description="numbers of principal components to choose from, on val; without labels the first counts; 0:"
        " the features are centred only; an empty list: they are left as they are"
    )
    whitening: list[Fraction] = Field(description="the same for the power of the deviations they are divided by")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.components) != bool(self.whitening):
            raise ValueError("components and whitening: give values for both, or two empty lists")
        return self


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
    Frozen | HistogramHOGFloor | RandomInit | RawPixelsFloor | SRGANUntrained,
    Field(discriminator="kind"),
]
