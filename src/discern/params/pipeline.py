"""The whole of params.yaml: one key per stage, and `dataset`, `base` and `arms`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from discern.params.dataset import Dataset
from discern.params.encoder import ViT
from discern.params.evaluation import Evaluate
from discern.params.model import ParamModel
from discern.params.promotion import Promotion
from discern.params.synthesis import (
    Control,
    PairControl,
    PretrainDecoder,
    ScoreFeatures,
    SynthesizePairs,
    TrainEncoder,
)
from discern.params.training import Base, Baseline, Fraction

ArmName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Arms(ParamModel):
    """The DVC matrix axes: seeds, and what `discern` is compared with."""

    seeds: list[int] = Field(min_length=1, description="every arm is trained once with each")
    controls: list[ArmName] = Field(min_length=1, description="go on from the base; keys of train_control")
    baselines: list[ArmName] = Field(min_length=1, description="start anew; keys of train_baseline")

    @property
    def all(self) -> list[str]:
        """Every arm, ours first."""
        return ["discern", *self.controls, *self.baselines]


class Validate(ParamModel):
    """The data gate."""

    max_quarantined: Fraction = Field(description="share of files that may be bad before the stage fails")
    max_pixels: int = Field(ge=1, description="images with more pixels are quarantined, not decoded")
    val_fraction: Fraction = Field(description="of train, by label-stratified hash")
    test_fraction: Fraction = Field(description="cut off where the data set names no test split")


class Pack(ParamModel):
    """Decoded once to a fixed size."""

    image_size: int = Field(ge=16, le=1024, description="side in pixels")
    resize: Literal["crop", "pad", "squash"] = Field(description="how another aspect ratio becomes square")


class Report(ParamModel):
    """What the report shows."""

    control: ArmName = Field(description="arm that every other is compared with, paired by test image")
    queries: int = Field(ge=1, le=24, description="test images whose neighbours are drawn")
    neighbours: int = Field(ge=1, le=12)
    examples: int = Field(ge=1, le=32, description="images in the picture grids")


class Params(ParamModel):
    """params.yaml."""

    dataset: Dataset
    base: Base
    arms: Arms
    validation: Validate = Field(alias="validate")
    pack: Pack
    pretrain_decoder: PretrainDecoder
    score_features: ScoreFeatures
    synthesize_pairs: SynthesizePairs
    train_encoder: TrainEncoder
    train_control: dict[ArmName, Control]
    train_baseline: dict[ArmName, Baseline]
    evaluate: Evaluate
    report: Report
    promote: Promotion

    @model_validator(mode="after")
    def _arms_are_described(self) -> Self:
        for family, names, known in (
            ("controls", self.arms.controls, self.train_control),
            ("baselines", self.arms.baselines, self.train_baseline),
        ):
            section = "train_control" if family == "controls" else "train_baseline"
            for name in names:
                if name not in known:
                    raise ValueError(f"arms.{family}: '{name}' has no entry in {section} ({', '.join(known)})")
                if name == "discern":
                    raise ValueError(f"arms.{family}: 'discern' is always trained; take it out of the list")
        if len(set(self.arms.all)) < len(self.arms.all):
            raise ValueError("arms: a name stands twice")
        if len(set(self.arms.seeds)) < len(self.arms.seeds):
            raise ValueError("arms.seeds: a seed stands twice")
        if self.report.control not in self.arms.all:
            raise ValueError(f"report.control: '{self.report.control}' is not among the arms {self.arms.all}")
        return self

    @model_validator(mode="after")
    def _the_encoder_fits_the_images(self) -> Self:
        encoder = self.base.encoder
        if isinstance(encoder, ViT) and encoder.image_size != self.pack.image_size:
            raise ValueError(
                f"base.encoder.image_size = {encoder.image_size} is not pack.image_size = {self.pack.image_size};"
                " a vision transformer's positions are learned for one size"
            )
        return self

    @model_validator(mode="after")
    def _pair_controls_differ_in_dims_only(self) -> Self:
        ours = self.train_encoder.model_dump(exclude={"passes"})
        for name in self.arms.controls:
            control = self.train_control[name]
            if isinstance(control, PairControl) and (
                control.synthesize_pairs != self.synthesize_pairs or control.train_encoder.model_dump() != ours
            ):
                raise ValueError(
                    f"train_control.{name}: its synthesize_pairs and train_encoder must equal the top-level ones,"
                    " or it controls for something else; set both"
                )
        return self
