"""What every method shares (`base`): encoder, views, and optimiser."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from discern.params.encoder import Encoder
from discern.params.model import Fraction, ParamModel


class Views(ParamModel):
    """Random augmentation of one view; the same for every method."""

    crop_area: tuple[float, float] = Field(description="share of the image's area kept by the crop")
    flip: Fraction
    jitter: Fraction = Field(description="probability of colour jitter")
    brightness: Fraction
    contrast: Fraction
    saturation: Fraction
    hue: Annotated[float, Field(ge=0, le=0.5)]
    grayscale: Fraction
    solarize: Fraction = Field(description="probability of inverting what is brighter than half")
    blur: Fraction = Field(description="probability of Gaussian blur")
    blur_sigma: tuple[float, float] = Field(description="in pixels of a 224 px image; scaled to the size")


class Optimizer(ParamModel):
    """Optimiser of the encoder and heads; lr is per 256 images and scales with the batch."""

    kind: Literal["sgd", "adamw", "lars"]
    lr: float = Field(gt=0, description="for a batch of 256 images; multiplied by batch_size / 256")
    momentum: Fraction
    weight_decay: float = Field(ge=0)
    clip: float = Field(ge=0, description="largest norm of all gradients together; 0: not clipped")
    warmup: Fraction = Field(description="share of the steps with linearly rising lr; then cosine to 0")


NEUTRAL = {
    "encoder_rate": 1.0, "layer_decay": 1.0, "fixed_stages": 0, "batch_norm_momentum": 0.1, "distillation": 0.0,
    "average": 0.0, "start_share": 0.0, "lora_rank": 0, "side_by_side": False,
    "components": 0, "whitening": 0.0,
}  # fmt: skip


class Adaptation(ParamModel):
    """What keeps training from forgetting what given weights know; the neutral values train as from scratch.

    What the field uses: rates of the encoder and of its layers (Clark et al. 2020), fixed stages, slow BatchNorm,
    distillation (Li & Hoiem 2016), averages of weights (Polyak & Juditsky 1992; WiSE-FT, Wortsman et al. 2022),
    low-rank updates (LoRA, Hu et al. 2022), and both encoders side by side.
    """

    encoder_rate: float = Field(gt=0, le=1, description="of the heads' learning rate, which are new; 1: equal")
    layer_decay: float = Field(
        gt=0, le=1, description="of the rate, from each block to the one before it; 1: none"
    )
    fixed_stages: int = Field(ge=0, description="stages from the image on that keep their weights; 0: none")
    batch_norm_momentum: float = Field(
        ge=0, le=1, description="of the encoder's running statistics; 0: it normalises by those it came with"
    )
    distillation: float = Field(
        ge=0, description="weight of 1 - cos(f(x), f_0(x)), f_0 the given weights; costs their passes; 0: none"
    )
    average: float = Field(ge=0, lt=1, description="per step, of the moving average of weights kept; 0: the last")
    start_share: Fraction = Field(description="of the given weights in those kept (WiSE-FT); 0: none")
    lora_rank: int = Field(ge=0, description="of the updates of a transformer's attention; 0: all weights train")
    side_by_side: bool = Field(
        description="true: features of the given and of the trained weights, each corrected and of length 1"
    )
    components: int = Field(
        ge=0, description="principal components of either that are kept; 0: they are centred only"
    )
    whitening: Fraction = Field(description="power of the deviation that each is divided by; 0: left as they are")

    @property
    def neutral(self) -> bool:
        """Whether training is as from scratch."""
        return self.model_dump() == NEUTRAL


class Base(ParamModel):
    """What every method and seed shares."""

    precision: Literal["fp32", "bf16"]
    deterministic: bool
    batch_size: int = Field(ge=4, description="images of one optimiser step, over all processes")
    accumulate: int = Field(
        ge=1, description="parts a batch is computed in, to save memory; a contrastive loss sees the part only"
    )
    sync_batch_norm: bool = Field(description="true: several processes normalise by their whole batch")
    encoder: Encoder
    weights: str = Field(
        description="what methods start from (docs/weights.md). none: random weights; imagenet1k_v1:"
        " torchvision's, which saw ImageNet's labels; pretrained or pretrained@REVISION: timm's; a package's name;"
        " or a .safetensors, .pth, .pt, .ckpt, .tar or .bin file (when it is replaced, give it another name)"
    )
    adaptation: Adaptation
    views: Views
    optimizer: Optimizer

    @model_validator(mode="after")
    def _there_is_something_to_adapt(self) -> Self:
        if self.weights == "none" and not self.adaptation.neutral:
            raise ValueError(
                "adaptation: it keeps what given weights know, and weights is none; give weights, or write"
                f" {', '.join(f'{name} {value}' for name, value in NEUTRAL.items())}"
            )
        return self
