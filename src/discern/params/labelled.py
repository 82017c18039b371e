"""References that see the labels."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from discern.params.model import Fraction, LabelledMethod


class Supervised(LabelledMethod):
    """Cross-entropy on the labels: the reference that sees them."""

    built_by: ClassVar[str] = "discern.methods.labelled.supervised"
    kind: Literal["supervised"]
    weights: str = Field(description="to start from. base: those of base.weights; none: from scratch")
    label_smoothing: Fraction


class PMG(LabelledMethod):
    """PMG: sees the labels; each stage learns from jigsaws of its own granularity (Du et al. 2020)."""

    built_by: ClassVar[str] = "discern.methods.labelled.pmg"
    kind: Literal["pmg"]
    width: int = Field(ge=8, multiple_of=2, description="channels that each stage's map is brought to; 1,024")
    encoder_rate: float = Field(gt=0, le=1, description="of the heads' learning rate; 0.1 in the paper")


Labelled = Annotated[PMG | Supervised, Field(discriminator="kind")]
