"""What every arm shares (`base`): encoder, views, and optimiser."""

from typing import Annotated, Literal

from pydantic import Field

from discern.params.model import ParamModel

Fraction = Annotated[float, Field(ge=0, le=1)]


class Encoder(ParamModel):
    """The network up to global average pooling."""

    kind: Literal["resnet18", "resnet50"]
    width: int = Field(ge=8, le=256, description="channels of the first stage; 64 is torchvision's")
    stem: Literal["imagenet", "small_images", "half"] = Field(
        description="imagenet: 7x7/2 and pooling; small_images: 3x3/1; half: 3x3/2 and pooling"
    )


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
    views: Views
    optimizer: Optimizer


class SimCLR(ParamModel):
    """NT-Xent between two views (Chen et al. 2020)."""

    kind: Literal["simclr"]
    temperature: float = Field(gt=0)
    hidden: int = Field(ge=8, description="width of the projector's hidden layer")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")


class MoCo(ParamModel):
    """InfoNCE against a queue of momentum-encoded keys (MoCo v2, Chen et al. 2020)."""

    kind: Literal["moco"]
    temperature: float = Field(gt=0)
    hidden: int = Field(ge=8, description="width of the projector's hidden layer")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")
    queue: int = Field(ge=8, description="keys kept; at most the number of training images")
    momentum: float = Field(ge=0, lt=1, description="of the key encoder, per step")
    allow_long_queue: bool = Field(description="true: accept a queue longer than the training set")


class Supervised(ParamModel):
    """Cross-entropy on the labels: the reference that sees them."""

    kind: Literal["supervised"]
    label_smoothing: Fraction


class RandomInit(ParamModel):
    """An untrained encoder: the floor."""

    kind: Literal["random_init"]


ContrastiveLoss = Annotated[SimCLR | MoCo, Field(discriminator="kind")]
Baseline = Annotated[SimCLR | MoCo | Supervised | RandomInit, Field(discriminator="kind")]
