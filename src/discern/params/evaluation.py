"""The evaluation protocol: what is computed for every method, in the same way."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from discern.params.model import ParamModel


def _whole_percent(share: float) -> float:
    if abs(100 * share - round(100 * share)) > 1e-9:
        raise ValueError("a whole number of percent is wanted, e.g. 0.05")
    return share


Share = Annotated[float, Field(gt=0, lt=1), AfterValidator(_whole_percent)]


class Knn(ParamModel):
    """Weighted nearest-neighbour vote, cosine similarity (Wu et al. 2018)."""

    k: int = Field(ge=1)
    large_k: int = Field(ge=1, description="voted with as well, where every class has as many training images")
    temperature: float = Field(gt=0)


class Probe(ParamModel):
    """L2-regularised logistic regression on standardised features."""

    strengths: list[float] = Field(min_length=1, description="C of scikit-learn; chosen on val")


class Bootstrap(ParamModel):
    """Resampling of test images for 95 % intervals."""

    samples: int = Field(ge=100)
    seed: int = Field(ge=0)


class Fractions(ParamModel):
    """The linear probe on a share of the training labels; the whole of them is the ordinary probe."""

    shares: list[Share] = Field(description="of every class, rising, whole percents; an empty list: switched off")
    subsets: int = Field(ge=1, le=100, description="draws of each share; a figure is the mean over them")
    seed: int = Field(ge=0, description="of the draws, which are equal for every method")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.shares != sorted(set(self.shares)):
            raise ValueError("shares must rise, each standing once")
        return self


class Mlp(ParamModel):
    """A perceptron with one hidden layer on standardised frozen features; Adam, the last epoch counts."""

    hidden: int = Field(ge=1, description="width of the hidden layer")
    epochs: int = Field(ge=0, description="0: switched off")
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    batch_size: int = Field(ge=1)
    seed: int = Field(ge=0, description="of initialisation and order")


class Finetune(ParamModel):
    """A copy of the encoder trained on with a linear head and the training labels; SGD, the last epoch counts."""

    layers: Literal["none", "last_stage", "all"] = Field(
        description="of the encoder that move; none: switched off"
    )
    epochs: int = Field(ge=1)
    lr: float = Field(gt=0, description="of the encoder; falls to 0 along a cosine, as the head's")
    head_lr: float = Field(gt=0)
    batch_size: int = Field(ge=2)
    weight_decay: float = Field(ge=0)
    seed: int = Field(ge=0, description="of the head, the order and the views")


class LargeHead(ParamModel):
    """The head of arXiv 2107.13973 on SRGAN's frozen generator; Adam, the last epoch counts."""

    hidden: int = Field(ge=1, description="width of the hidden layer; 1,024 in the paper")
    dropouts: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        min_length=1, description="a head for each, chosen on val; 0, 0.5, 0.7 and 0.9 in the paper"
    )
    epochs: int = Field(ge=0, description="0: switched off")
    lr: float = Field(gt=0)
    batch_size: int = Field(ge=2)
    seed: int = Field(ge=0, description="of initialisation, order and dropout")


class Evaluate(ParamModel):
    """One protocol for every method."""

    knn: Knn
    probe: Probe
    bootstrap: Bootstrap
    fractions: Fractions
    mlp: Mlp
    finetune: Finetune
    large_head: LargeHead
