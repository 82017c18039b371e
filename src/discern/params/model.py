"""The bases of every parameter model."""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Resize = Literal["crop", "pad", "squash"]
MethodName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class ParamModel(BaseModel):
    """A frozen model that knows all its keys.

    No field has a default: a default living in Python would be invisible to `dvc params diff` and would not
    invalidate the stages that use it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class MethodModel(ParamModel):
    """The description of one way to get an encoder: `methods/NAME.yaml`.

    Attributes:
        kind: tells the descriptions apart.
        built_by: module whose `build(description, setup)` makes of it what trains, imported when it is wanted.
    """

    built_by: ClassVar[str]
    kind: str

    @classmethod
    def about(cls) -> str:
        """What it is, in one line."""
        return (cls.__doc__ or "").strip().partition("\n")[0].rstrip(".")


class TrainedMethod(MethodModel):
    """A method that `base.optimizer` trains."""

    rate: float = Field(gt=0, description="factor of base.optimizer.lr; losses differ in scale")


class LabelledMethod(TrainedMethod):
    """A reference that sees the labels."""


class FloorMethod(MethodModel):
    """An encoder that is not trained: what training has to beat."""
