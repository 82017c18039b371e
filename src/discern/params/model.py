"""The base of every parameter model."""

from pydantic import BaseModel, ConfigDict


class ParamModel(BaseModel):
    """A frozen model that knows all its keys.

    No field has a default: a default living in Python would be invisible to `dvc params diff` and would not
    invalidate the stages that use it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
