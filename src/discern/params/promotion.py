"""When an encoder may become champion: a decision that is reviewed and versioned like any other parameter."""

from typing import Literal

from pydantic import Field

from discern.params.model import Fraction, ParamModel


class Promotion(ParamModel):
    """What `discern promote` asks of a candidate; no stage depends on it."""

    measure: Literal["probe.top1", "knn.top1", "retrieval.rank1", "retrieval.map", "mlp.top1"] = Field(
        description="figure that decides, compared image by image"
    )
    margin: Fraction = Field(
        description="by which the candidate must be better; its interval must exclude 0 anyway"
    )
    floor: Fraction = Field(description="that the figure must reach")
    class_drop: Fraction = Field(description="share of its test images that any one class may lose")
    class_images: int = Field(ge=1, description="test images that a class must have to be looked at")
