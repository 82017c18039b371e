"""Jigsaw puzzles as a pretext task (Noroozi & Favaro 2016, arXiv 1603.09246)."""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.errors import ParamsError
from discern.params.encoder import ViT
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.pretext.jigsaw import JigsawObjective

SMALLEST = 4  # side of a tile in pixels; 16 px images, the smallest that `pack` makes, come to just that


class Jigsaw(TrainedArm):
    """Jigsaw: which permutation shuffled the image's nine tiles (Noroozi & Favaro 2016)."""

    kind: Literal["jigsaw"]
    permutations: int = Field(
        ge=2, le=1000, description="to tell apart; 1,000 in the paper; any two of 100 differ in 6 tiles or more"
    )
    tile: float = Field(gt=0, le=1, description="side of a tile as a share of its cell's; 64/75 in the paper")
    bottleneck: int = Field(ge=8, description="width of the layer that each tile has before they are joined")
    dropout: float = Field(ge=0, lt=1, description="of the joined tiles; 0.5 in the paper")
    grayscale: Annotated[float, Field(ge=0, le=1, description="share of grey images; 0.3 in the paper")]


@register(Jigsaw, "self_supervised")
def jigsaw(params: Jigsaw, setup: Setup) -> "JigsawObjective":
    """At chance every permutation is as likely: ln(permutations).

    Raises:
        ParamsError: tiles of fewer than 4 pixels show nothing, or the encoder takes whole images only.
    """
    from discern.pretext.jigsaw import JigsawObjective, tile_side

    if isinstance(setup.encoder.params, ViT):
        raise ParamsError(
            "base.encoder: a vit knows the positions of whole images only, and jigsaw feeds it their tiles;"
            " take a resnet, or jigsaw out of arms.baselines"
        )
    side = tile_side(setup.size, params.tile)
    if side < SMALLEST:
        raise ParamsError(
            f"pack.image_size = {setup.size}: jigsaw's tiles would be {side} px wide and at least {SMALLEST} are"
            f" needed; with tile = {params.tile:g} that takes {3 * math.ceil(SMALLEST / params.tile)} px"
        )
    return JigsawObjective(params, setup.encoder)
