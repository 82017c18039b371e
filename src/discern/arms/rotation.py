"""Predicting rotations as a pretext task (Gidaris et al. 2018, arXiv 1803.07728)."""

from typing import TYPE_CHECKING, Literal

from discern.arms.registry import Setup, register
from discern.params.model import TrainedArm

if TYPE_CHECKING:
    from discern.pretext.rotation import RotationObjective


class Rotation(TrainedArm):
    """Rotation: by how many quarter turns the image was turned (Gidaris et al. 2018)."""

    kind: Literal["rotation"]


@register(Rotation, "self_supervised")
def rotation(params: Rotation, setup: Setup) -> "RotationObjective":  # noqa: ARG001  # there is nothing to choose
    """At chance the four turns are as likely: ln(4)."""
    from discern.pretext.rotation import RotationObjective

    return RotationObjective(setup.encoder)
