"""Networks that make features of an image; the description stands in params.yaml and beside the weights."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from discern.params.model import Fraction, ParamModel


class NetworkModel(ParamModel):
    """The description of a network.

    Attributes:
        kind: tells the descriptions apart.
        network: module and class that is made of it, imported when it is wanted.
    """

    network: ClassVar[str]
    kind: str


class ResNet(NetworkModel):
    """A torchvision ResNet up to global average pooling."""

    network: ClassVar[str] = "discern.models.resnet:ResNetEncoder"
    kind: Literal["resnet18", "resnet50"]
    width: int = Field(ge=8, le=256, description="channels of the first stage; 64 is torchvision's")
    stem: Literal["imagenet", "small_images", "half"] = Field(
        description="imagenet: 7x7/2 and pooling; small_images: 3x3/1; half: 3x3/2 and pooling"
    )


class Timm(NetworkModel):
    """Any network of timm that gives a feature map or tokens (Wightman 2019), at the images' own side."""

    network: ClassVar[str] = "discern.models.timm_encoder:TimmEncoder"
    kind: Literal["timm"]
    name: str = Field(
        pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)?$",
        description="timm's, e.g. tf_efficientnet_lite0 or vit_small_patch14_reg4_dinov2; what follows a dot"
        " tells apart the weights that timm publishes of it",
    )


Encoder = Annotated[ResNet | Timm, Field(discriminator="kind")]


class Corrected(NetworkModel):
    """Another encoder's features, centred, turned to their first principal components and evened out."""

    network: ClassVar[str] = "discern.models.corrected:CorrectedEncoder"
    kind: Literal["corrected"]
    encoder: Encoder
    components: int = Field(ge=0, description="that are kept; 0: the features are centred only")
    whitening: Fraction = Field(description="power of the deviation that a component is divided by; 1: whitened")


class SideBySide(NetworkModel):
    """The encoder before and after training, both at once: features of either, each of length 1."""

    network: ClassVar[str] = "discern.models.side_by_side:SideBySideEncoder"
    kind: Literal["side_by_side"]
    encoder: Annotated[ResNet | Timm | Corrected, Field(discriminator="kind")]


class Attended(NetworkModel):
    """LCR's: a branch's attention weighs the feature map of the encoder inside."""

    network: ClassVar[str] = "discern.methods.pretext.lcr:AttendedEncoder"
    kind: Literal["attended"]
    encoder: Encoder
    projections: int = Field(ge=1, description="1x1 filters whose maximum is the attention")


class RawPixels(NetworkModel):
    """The image itself, small: no network."""

    network: ClassVar[str] = "discern.methods.floors.raw_pixels:RawPixelEncoder"
    kind: Literal["raw_pixels"]
    side: int = Field(ge=1, le=256, description="pixels that the image is resized to; 3 side^2 features")


class HistogramHOG(NetworkModel):
    """Colour histogram and histogram of oriented gradients: no network."""

    network: ClassVar[str] = "discern.methods.floors.histogram_hog:HistogramHOGEncoder"
    kind: Literal["histogram_hog"]
    bins: int = Field(ge=2, le=16, description="of red, of green and of blue; bins^3 together")
    side: int = Field(ge=8, le=512, description="pixels that the image is resized to for the gradients")
    pixels_per_cell: int = Field(ge=2, description="side of a cell of gradients; blocks are 2x2 cells")

    @model_validator(mode="after")
    def _a_block_fits(self) -> Self:
        if self.side < 2 * self.pixels_per_cell:
            raise ValueError(
                f"side: {self.side} pixels hold no block of 2x2 cells of {self.pixels_per_cell} pixels; lower"
                " pixels_per_cell"
            )
        return self


class SRGANGenerator(NetworkModel):
    """SRGAN's generator; features of its residual trunk, on the image at a quarter of its side."""

    network: ClassVar[str] = "discern.methods.pretext.srgan.networks:GeneratorEncoder"
    kind: Literal["srgan_generator"]
    channels: int = Field(ge=8, description="64 in the paper")
    blocks: int = Field(ge=1, description="residual blocks; 16 in the paper")


class SRGANDiscriminator(NetworkModel):
    """SRGAN's discriminator; features of its last convolution, on the whole image."""

    network: ClassVar[str] = "discern.methods.pretext.srgan.networks:DiscriminatorEncoder"
    kind: Literal["srgan_discriminator"]
    width: int = Field(ge=8, description="channels of the first convolution; 64 in the paper")


Architecture = Annotated[
    ResNet
    | Timm
    | SideBySide
    | Corrected
    | Attended
    | RawPixels
    | HistogramHOG
    | SRGANGenerator
    | SRGANDiscriminator,
    Field(discriminator="kind"),
]
"""Every network that a method may leave behind; `Encoder` are those that methods start from."""
