"""DINO: self-distillation without labels (Caron et al. 2021, arXiv 2104.14294)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.ssl.dino import DINOMethod


class DINO(TrainedArm):
    """DINO: a student predicts its momentum teacher's assignment of the other view (Caron et al. 2021)."""

    kind: Literal["dino"]
    hidden: int = Field(ge=8, description="width of the head's hidden layers")
    bottleneck: int = Field(ge=8, description="width of the normalised layer before the prototypes")
    dim: int = Field(ge=8, description="prototypes; 65,536 in the paper")
    batch_norm: bool = Field(description="in the head; the paper has it with a ResNet, not with a ViT")
    student_temperature: float = Field(gt=0, description="0.1 in the paper")
    teacher_temperature: float = Field(gt=0, description="0.04 in the paper")
    centre_momentum: float = Field(ge=0, lt=1, description="of the teacher's mean output; 0.9 in the paper")
    momentum: float = Field(ge=0, lt=1, description="of the teacher, per step; constant")


@register(DINO, "loss")
def dino(params: DINO, setup: Setup) -> "DINOMethod":
    """At chance the student's answer is uniform: ln(prototypes)."""
    from discern.ssl.dino import DINOMethod

    return DINOMethod(params, setup.encoder)
