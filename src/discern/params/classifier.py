"""Classifiers that stand on an encoder; the description stands beside their weights."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from discern.params.encoder import NetworkModel


class Linear(NetworkModel):
    """One layer on pooled features."""

    network: ClassVar[str] = "discern.methods.labelled.supervised:LinearClassifier"
    kind: Literal["linear"]
    dim: int = Field(ge=1, description="of the features")
    classes: int = Field(ge=2)


class Granular(NetworkModel):
    """PMG's: a classifier for each of an encoder's last stages and one for all together."""

    network: ClassVar[str] = "discern.methods.labelled.pmg:GranularClassifier"
    kind: Literal["pmg"]
    dims: list[int] = Field(min_length=1, description="channels of the stages' maps")
    width: int = Field(ge=2, description="channels that each stage's map is brought to")
    classes: int = Field(ge=2)


Classifier = Annotated[Linear | Granular, Field(discriminator="kind")]

CLASSIFIER: TypeAdapter[Classifier] = TypeAdapter(Classifier)
