"""Other tasks that need no labels: puzzles, colours, turns, resolution, corrupted views, learnt attention."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from discern.params.corruption import Corruption
from discern.params.encoder import SRGANDiscriminator, SRGANGenerator
from discern.params.model import Fraction, MethodModel, ParamModel, TrainedMethod
from discern.params.two_view import Contrastive, Queue


class CorruptedSimCLR(Contrastive):
    """SimCLR, one or both of its views corrupted (arXiv 2107.13973)."""

    built_by: ClassVar[str] = "discern.methods.pretext.corrupted.objective"
    kind: Literal["simclr_corrupted"]
    corruption: Corruption
    sides: Literal["one", "two"] = Field(description="views that are corrupted, after the ordinary augmentation")


class LCR(Queue):
    """LCR: MoCo v2 with a branch, fitted to its loss's Grad-CAM, that weighs the features (Shu et al. 2023)."""

    built_by: ClassVar[str] = "discern.methods.pretext.lcr"
    kind: Literal["lcr"]
    projections: int = Field(ge=1, description="1x1 filters whose maximum is the attention; 32 in its code")
    fitting_weight: float = Field(ge=0, description="of the KL divergence between the maps; 0.01 in its code")


class Jigsaw(TrainedMethod):
    """Jigsaw: which permutation shuffled the image's nine tiles (Noroozi & Favaro 2016)."""

    built_by: ClassVar[str] = "discern.methods.pretext.jigsaw.objective"
    kind: Literal["jigsaw"]
    permutations: int = Field(
        ge=2, le=1000, description="to tell apart; 1,000 in the paper; any two of 100 differ in 6 tiles or more"
    )
    tile: float = Field(gt=0, le=1, description="side of a tile as a share of its cell's; 64/75 in the paper")
    bottleneck: int = Field(ge=8, description="width of the layer that each tile has before they are joined")
    dropout: float = Field(ge=0, lt=1, description="of the joined tiles; 0.5 in the paper")
    grayscale: Fraction = Field(description="share of grey images; 0.3 in the paper")


class Rotation(TrainedMethod):
    """Rotation: by how many quarter turns the image was turned (Gidaris et al. 2018)."""

    built_by: ClassVar[str] = "discern.methods.pretext.rotation"
    kind: Literal["rotation"]


class Colorization(TrainedMethod):
    """Colourisation: which colours the grey image had (Zhang et al. 2016)."""

    built_by: ClassVar[str] = "discern.methods.pretext.colorization.objective"
    kind: Literal["colorization"]
    width: int = Field(ge=8, description="channels of the decoder")
    blocks: int = Field(
        ge=1,
        description="convolutions of the decoder, each at up to twice the resolution of the one before;"
        " the last one at a quarter of the image's",
    )


class MSEContent(ParamModel):
    """Mean squared error of the pixels; needs no labels."""

    kind: Literal["mse"]


class VGGContent(ParamModel):
    """Distance between feature maps of a VGG-19. Not label-free: its weights come from ImageNet's labels."""

    kind: Literal["vgg"]
    weights: str = Field(description="imagenet1k_v1: torchvision's, downloaded; or a file of torchvision's vgg19")
    weight: float = Field(ge=0, description="of the squared distance; 0.006 in the paper")


class SRGANNetworks(MethodModel):
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

    built_by: ClassVar[str] = "discern.methods.pretext.srgan.objective"
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


Pretext = Annotated[
    Colorization | CorruptedSimCLR | Jigsaw | LCR | Rotation | SRGAN,
    Field(discriminator="kind"),
]
