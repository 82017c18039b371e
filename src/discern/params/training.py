"""What every arm shares (`base`): encoder, views, and optimiser."""

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from discern.arms import Role, registered
from discern.params.encoder import Encoder
from discern.params.model import ParamModel

Fraction = Annotated[float, Field(ge=0, le=1)]


class Views(ParamModel):
    """Random augmentation of one view; the same for every arm."""

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
    """What every arm and seed shares."""

    precision: Literal["fp32", "bf16"]
    deterministic: bool
    batch_size: int = Field(ge=4, description="images of one optimiser step, over all processes")
    accumulate: int = Field(
        ge=1, description="parts a batch is computed in, to save memory; a contrastive loss sees the part only"
    )
    sync_batch_norm: bool = Field(description="true: several processes normalise by their whole batch")
    encoder: Encoder
    weights: str = Field(
        description="what arms start from. none: random weights; imagenet1k_v1: torchvision's, which saw"
        " ImageNet's labels; or a .safetensors, .pth or .pt file (when it is replaced, give it another name)"
    )
    views: Views
    optimizer: Optimizer


def _any_of(*roles: Role) -> Any:
    """The discriminated union of what is registered with these roles, so that a new arm needs no line here."""
    models = dict.fromkeys(arm.params for arm in registered(*roles).values())
    return Annotated[reduce(or_, models), Field(discriminator="kind")]


if TYPE_CHECKING:
    ContrastiveLoss = Any
    Baseline = Any
else:
    ContrastiveLoss = _any_of("loss")
    Baseline = _any_of()
