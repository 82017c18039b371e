"""The whole of params.yaml: one key per stage, and `dataset`, `base` and `methods`."""

from typing import Self

from pydantic import Field, model_validator

from discern.params.base import Base
from discern.params.dataset import Dataset
from discern.params.evaluation import Evaluate
from discern.params.floors import Frozen
from discern.params.methods import TWO_VIEW, Method, kinds
from discern.params.model import Fraction, MethodName, ParamModel, Resize
from discern.params.promotion import Promotion
from discern.params.synthesis import PairControl, PretrainDecoder, ScoreFeatures, SynthesizePairs, TrainEncoder
from discern.params.two_view import TwoView

OURS, CONTINUE = "discern", "continue"
"""The methods that are always trained: ours, and its base going on with L_C alone."""


class Methods(ParamModel):
    """The DVC matrix axes: seeds, and what ours is compared with besides `continue`."""

    seeds: list[int] = Field(min_length=1, description="every method is trained once with each")
    controls: list[MethodName] = Field(description="ours with other dimensions: keys of train_control")
    compared: list[MethodName] = Field(description="from scratch, or not trained: each is methods/NAME.yaml")

    @property
    def all(self) -> list[str]:
        """Every method, ours first."""
        return [OURS, CONTINUE, *self.controls, *self.compared]


class Validate(ParamModel):
    """The data gate."""

    max_quarantined: Fraction = Field(description="share of files that may be bad before the stage fails")
    max_pixels: int = Field(ge=1, description="images with more pixels are quarantined, not decoded")
    val_fraction: Fraction = Field(description="of train, by label-stratified hash")
    test_fraction: Fraction = Field(description="cut off where the data set names no test split")


class Pack(ParamModel):
    """Decoded once to a fixed size."""

    image_size: int = Field(ge=16, le=1024, description="side in pixels")
    resize: Resize = Field(description="how another aspect ratio becomes square")


class Report(ParamModel):
    """What the report shows."""

    control: MethodName = Field(description="method that every other is compared with, paired by test image")
    queries: int = Field(ge=1, le=24, description="test images whose neighbours are drawn")
    neighbours: int = Field(ge=1, le=12)
    examples: int = Field(ge=1, le=32, description="images in the picture grids")


class Params(ParamModel):
    """params.yaml, and the methods that it names, each from a file of its own."""

    dataset: Dataset
    base: Base
    methods: Methods
    validation: Validate = Field(alias="validate")
    pack: Pack
    pretrain_decoder: PretrainDecoder
    score_features: ScoreFeatures
    synthesize_pairs: SynthesizePairs
    train_encoder: TrainEncoder
    train_control: dict[MethodName, PairControl]
    evaluate: Evaluate
    report: Report
    promote: Promotion
    described: dict[MethodName, Method] = Field(exclude=True, description="methods/NAME.yaml by name")

    @property
    def loss(self) -> TwoView:
        """The description of L_C."""
        return TWO_VIEW.validate_python(self.described[self.pretrain_decoder.loss])

    @model_validator(mode="after")
    def _methods_are_told_apart(self) -> Self:
        for name in self.methods.controls:
            if name not in self.train_control:
                known = ", ".join(self.train_control)
                raise ValueError(f"methods.controls: '{name}' has no entry in train_control ({known})")
        for name in (OURS, CONTINUE):
            if name in [*self.methods.controls, *self.methods.compared]:
                raise ValueError(f"methods: '{name}' is always trained; take it out of the list")
        if len(set(self.methods.all)) < len(self.methods.all):
            raise ValueError("methods: a name stands twice")
        if len(set(self.methods.seeds)) < len(self.methods.seeds):
            raise ValueError("methods.seeds: a seed stands twice")
        if self.report.control not in self.methods.all:
            raise ValueError(
                f"report.control: '{self.report.control}' is not among the methods {self.methods.all}"
            )
        return self

    @model_validator(mode="after")
    def _what_is_frozen_was_given(self) -> Self:
        for name in self.methods.compared:
            method = self.described[name]
            if isinstance(method, Frozen) and method.weights == "base" and self.base.weights == "none":
                raise ValueError(
                    f"methods.compared: '{name}' is the weights of base, frozen, and base.weights is none; give"
                    f" base.weights or methods/{name}.yaml other weights, or take it out of the list"
                )
        return self

    @model_validator(mode="after")
    def _ours_rests_on_a_loss_between_two_views(self) -> Self:
        name, possible = self.pretrain_decoder.loss, kinds(TwoView)
        if self.described[name].kind not in possible:
            raise ValueError(f"pretrain_decoder.loss: '{name}' is none of the kinds {', '.join(possible)}")
        return self
