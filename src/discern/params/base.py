"""What every method shares (`base`): encoder, views, and optimiser."""

from typing import Annotated, Literal

from pydantic import Field

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
    views: Views
    optimizer: Optimizer
