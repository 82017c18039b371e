"""The base of every parameter model."""

from pydantic import BaseModel, ConfigDict, Field


class ParamModel(BaseModel):
    """A frozen model that knows all its keys.

    No field has a default: a default living in Python would be invisible to `dvc params diff` and would not
    invalidate the stages that use it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainedArm(ParamModel):
    """An arm that `base.optimizer` trains."""

    rate: float = Field(gt=0, description="factor of base.optimizer.lr; losses differ in scale")
