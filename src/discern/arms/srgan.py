"""SRGAN: super-resolution as pretext (Ledig et al. 2017, arXiv 1609.04802; as pretext in arXiv 2107.13973)."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.errors import ParamsError
from discern.params.encoder import SRGANDiscriminator, SRGANGenerator
from discern.params.model import ParamModel

if TYPE_CHECKING:
    from discern.models.encoder import ImageEncoder
    from discern.pretext.srgan import SRGANObjective

SCALE = 4  # of the super-resolution


class MSEContent(ParamModel):
    """Mean squared error of the pixels; needs no labels."""

    kind: Literal["mse"]


class VGGContent(ParamModel):
    """Distance between feature maps of a VGG-19. Not label-free: its weights come from ImageNet's labels."""

    kind: Literal["vgg"]
    weights: str = Field(description="imagenet1k_v1: torchvision's, downloaded; or a file of torchvision's vgg19")
    weight: float = Field(ge=0, description="of the squared distance; 0.006 in the paper")


class SRGANNetworks(ParamModel):
    """Which of the two networks is kept, and how large both are."""

    features: Literal["generator", "discriminator"] = Field(
        description="what is kept: the generator's trunk, on the image at a quarter of its side, or the"
        " discriminator's convolutions, on the whole image"
    )
    channels: int = Field(ge=8, description="of the generator; 64 in the paper")
    blocks: int = Field(ge=1, description="the generator's residual blocks; 16 in the paper")
    width: int = Field(ge=8, description="channels of the discriminator's first convolution; 64 in the paper")

    @property
    def generator(self) -> SRGANGenerator:
        """The generator's description."""
        return SRGANGenerator(kind="srgan_generator", channels=self.channels, blocks=self.blocks)

    @property
    def discriminator(self) -> SRGANDiscriminator:
        """The discriminator's description."""
        return SRGANDiscriminator(kind="srgan_discriminator", width=self.width)


class SRGAN(SRGANNetworks):
    """SRGAN: restore the image from a quarter of its resolution, against a discriminator (Ledig et al. 2017)."""

    kind: Literal["srgan"]
    residual: bool = Field(
        description="true: what it makes is added to bicubic upscaling: fewer steps; false: as in the paper"
    )
    mse_share: float = Field(ge=0, le=1, description="share of the steps with mean squared error alone")
    content: Annotated[MSEContent | VGGContent, Field(discriminator="kind")] = Field(
        description="loss of what is restored, in the steps after those"
    )
    adversarial_weight: float = Field(ge=0, description="beside the content loss; 0.001 in the paper")
    lr: float = Field(gt=0, description="of Adam, which trains both networks; 1e-4 in the paper")


class SRGANUntrained(SRGANNetworks):
    """SRGAN's networks as they come from their initialisation: the control that its figures are read against."""

    kind: Literal["srgan_untrained"]


@register(SRGAN, "self_supervised")
def srgan(params: SRGAN, setup: Setup) -> "SRGANObjective":
    """No chance level: a loss of pixels has none.

    Raises:
        ParamsError: the images cannot be downscaled evenly.
    """
    from discern.pretext.srgan import SRGANObjective

    if setup.size % SCALE:
        raise ParamsError(
            f"params.yaml: pack.image_size = {setup.size}: srgan downscales by {SCALE}; choose a multiple of it"
        )
    return SRGANObjective(params, setup.size, setup.seed)


@register(SRGANUntrained, "untrained")
def srgan_untrained(params: SRGANUntrained, setup: Setup) -> "ImageEncoder":
    """The weights from which `srgan` of the same seed and size starts."""
    from discern.models.encoder import build_encoder

    return build_encoder(getattr(params, params.features), setup.seed)
