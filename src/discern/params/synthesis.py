"""What the project exists for: decoder, scores, perturbation and pair training."""

from typing import Annotated, Literal

from pydantic import Field

from discern.params.model import Fraction, MethodName, ParamModel


class Decoder(ParamModel):
    """Pooled features to image."""

    width: int = Field(ge=8, le=512, description="channels at 4x4; halved with every doubling, 16 at least")
    resolution: Literal[16, 32, 64, 128] = Field(description="side of the decoded image in pixels")


class PretrainDecoder(ParamModel):
    """L_C + alpha L_R: the base encoder and its decoder."""

    passes: int = Field(ge=1, description="encoder passes per training image, spent on the shared base")
    loss: MethodName = Field(description="L_C, here and in train_encoder: a loss of methods/ between two views")
    reconstruction_weight: float = Field(ge=0, description="alpha")
    detach: bool = Field(description="true: the reconstruction loss does not reach the encoder")
    decoder_lr: float = Field(gt=0, description="Adam; cosine like the encoder's")
    decoder: Decoder


class ScoreFeatures(ParamModel):
    """Which dimensions do not discriminate."""

    basis: Literal["raw", "pca"]
    sign: Literal["absolute", "positive", "negative"] = Field(
        description="of the Grad-CAM importance: |.|, ReLU(+) or ReLU(-)"
    )
    combine: Literal["union", "intersection", "variance", "gradcam"]
    low_variance: Fraction = Field(description="r_v: share of dimensions called low in variance")
    low_importance: Fraction = Field(description="r_g: share of dimensions called low in importance")
    mask: Literal["dataset", "image"] = Field(description="one mask for all, or one for each image")


class Swap(ParamModel):
    """Masked dimensions are taken from another image."""

    kind: Literal["swap"]


class Gaussian(ParamModel):
    """Masked dimensions get noise of `scale` times the mean standard deviation."""

    kind: Literal["gaussian"]
    scale: float = Field(gt=0)


class Flatten(ParamModel):
    """Masked dimensions are set to zero, or to their mean over the training set."""

    kind: Literal["zero", "mean"]


Perturbation = Annotated[Swap | Gaussian | Flatten, Field(discriminator="kind")]


class SynthesizePairs(ParamModel):
    """Decoded originals and perturbed versions, made once."""

    perturbation: Perturbation
    copies: int = Field(ge=1, le=64, description="perturbed versions of every training image")


class TrainEncoder(ParamModel):
    """L_C + alpha L_R + nu L_Cp: ours, and the budget that every method gets after the base."""

    passes: int = Field(
        ge=1,
        description="encoder passes per training image, a synthesized image counting as one;"
        " methods from scratch get those of pretrain_decoder as well",
    )
    pair_weight: float = Field(ge=0, description="nu")
    reconstruction_weight: float = Field(ge=0, description="alpha; online pairs need it to follow the encoder")
    pair: Literal["real", "reconstructed"] = Field(
        description="partner of the perturbed image: an augmented real view, or the reconstruction"
    )
    source: Literal["offline", "online"] = Field(
        description="offline: the pairs of synthesize_pairs; online: decoded at every step"
    )
    batch_norm: Literal["separate", "joint"] = Field(
        description="separate: synthesized images leave no trace in the running statistics"
    )
    augment: bool = Field(description="true: synthesized images are augmented like views")
    warmup: Fraction = Field(description="share of the steps over which nu rises from 0")


class PairControl(ParamModel):
    """Ours with another choice of dimensions; all else is that of `synthesize_pairs` and `train_encoder`."""

    dims: Literal["random", "discriminative"] = Field(
        description="random: as many at random; discriminative: the complement, which must hurt"
    )
