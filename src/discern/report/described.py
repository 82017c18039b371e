"""What each arm is: its place in the tables, its colour, its role, and a sentence about it."""

from dataclasses import dataclass

from discern.arms import registered
from discern.params.pipeline import Params
from discern.params.synthesis import Continue
from discern.report.figures import ARM_COLOURS
from discern.report.table import OURS


@dataclass(frozen=True)
class Arm:
    """One arm as the page names it; `number` is its place in the tables."""

    name: str
    kind: str
    number: int
    role: str
    about: str

    @property
    def drawn(self) -> bool:
        """Whether it has a colour of its own, and so lines in the panels."""
        return self.number < ARM_COLOURS

    @property
    def colour(self) -> str:
        """Its colour in style.css; grey where there are more arms than colours that can be told apart."""
        return f"var(--arm-{self.number})" if self.drawn else "var(--muted)"


def arms(params: Params) -> list[Arm]:
    """Every arm with what it is, in the order of the tables."""
    return [
        Arm(name, _kind(name, params), number, _role(name, params), _about(name, params))
        for number, name in enumerate(params.arms.all)
    ]


def _kind(name: str, params: Params) -> str:
    if name == OURS:
        return OURS
    return params.train_control[name].kind if name in params.arms.controls else params.train_baseline[name].kind


def _role(name: str, params: Params) -> str:
    if name == OURS:
        return "ours"
    if name == params.report.control:
        return "control"
    if name in params.arms.baselines and registered()[params.train_baseline[name].kind].role == "untrained":
        return "floor"
    return "control" if name in params.arms.controls else "baseline"


def _about(name: str, params: Params) -> str:
    before, after = params.pretrain_decoder.passes, params.train_encoder.passes
    whole = f"from scratch for the whole budget of {before + after} encoder passes per image"
    if name == OURS:
        return (
            f"the base encoder ({before} passes), then {after} passes with synthesized pairs: "
            "features that do not discriminate are perturbed, decoded into an image, and the encoder learns "
            "that nothing that matters has changed"
        )
    if name in params.arms.controls:
        control = params.train_control[name]
        if isinstance(control, Continue):
            return f"the same base encoder, {after} more passes with the contrastive loss alone: no pairs"
        if control.dims == "random":
            return "like discern, but as many features are perturbed at random"
        return "like discern, but the features that do discriminate are perturbed: this must hurt"
    arm = registered()[params.train_baseline[name].kind]
    return arm.about if arm.role == "untrained" else f"{arm.about}; {whole}"
