"""Corruptions of views (arXiv 2107.13973), told apart by `kind`; lengths are shares of the view's side."""

from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field

from discern.params.model import ParamModel

Number = TypeVar("Number", int, float)


def _rising(pair: tuple[Number, Number]) -> tuple[Number, Number]:
    if pair[0] > pair[1]:
        raise ValueError("the first number is the smaller one")
    return pair


Share = Annotated[float, Field(gt=0, le=1)]
Exponent = Annotated[float, Field(gt=0, le=10)]
Holes = Annotated[int, Field(ge=1, le=50)]


class Gamma(ParamModel):
    """Values in [0, 1] to a random power."""

    kind: Literal["gamma"]
    exponent: Annotated[tuple[Exponent, Exponent], AfterValidator(_rising)] = Field(
        description="from and to; 0.5 and 2.5 in the paper"
    )


class CoarseDropout(ParamModel):
    """Black square holes."""

    kind: Literal["coarse_dropout"]
    holes: Annotated[tuple[Holes, Holes], AfterValidator(_rising)] = Field(
        description="how many, from and to; 5 and 20 in the paper"
    )
    side: Annotated[tuple[Share, Share], AfterValidator(_rising)] = Field(
        description="share of the view's side, from and to; 0.02 and 0.05 in the paper (10 and 25 of 512 px)"
    )


class CroppedRegion(ParamModel):
    """All white but a window round the mean position of strong corners."""

    kind: Literal["cropped_region"]
    side: Annotated[tuple[Share, Share], AfterValidator(_rising)] = Field(
        description="share of the view's side, from and to; 0.39 and 0.59 in the paper (200 and 300 of 512 px)"
    )
    quality: Share = Field(description="corners weaker than this share of the strongest do not count")


class PatchSwap(ParamModel):
    """Two square patches change places, one from each half of the image."""

    kind: Literal["patch_swap"]
    side: float = Field(gt=0, le=0.5, description="share of the view's side; 0.39 in the paper (200 of 512 px)")


class RandomJigsaw(ParamModel):
    """The tiles of a grid in random order."""

    kind: Literal["random_jigsaw"]
    grid: int = Field(ge=2, le=16, description="tiles along a side; 4 in the paper")


class DCLJigsaw(ParamModel):
    """The tiles of a grid shuffled among their neighbours (Chen et al., CVPR 2019)."""

    kind: Literal["dcl_jigsaw"]
    grid: int = Field(ge=2, le=16, description="tiles along a side; 7 and 3 in the paper")
    reach: float = Field(gt=0, le=16, description="a tile moves by less than twice as many; 2 in the paper")


Corruption = Annotated[
    CoarseDropout | CroppedRegion | DCLJigsaw | Gamma | PatchSwap | RandomJigsaw, Field(discriminator="kind")
]
