"""What each method is: its place in the tables, its colour, its role, and a sentence about it.

All of it is read from what stands beside the weights, so that a report says what was trained, whatever the
parameters say by now.
"""

from dataclasses import dataclass

from discern.models.making import read_making
from discern.params.floors import Floor
from discern.params.methods import kinds
from discern.params.pipeline import CONTINUE, OURS, Params
from discern.report.figures import METHOD_COLOURS
from discern.workspace import Workspace


@dataclass(frozen=True)
class Method:
    """One method as the page names it; `number` is its place in the tables."""

    name: str
    kind: str
    number: int
    role: str
    about: str

    @property
    def drawn(self) -> bool:
        """Whether it has a colour of its own, and so lines in the panels."""
        return self.number < METHOD_COLOURS

    @property
    def colour(self) -> str:
        """Its colour in style.css; grey where there are more methods than colours that can be told apart."""
        return f"var(--method-{self.number})" if self.drawn else "var(--muted)"


def methods(params: Params, workspace: Workspace) -> list[Method]:
    """Every method with what it is, in the order of the tables.

    Raises:
        ModelError: an encoder is missing.
    """
    seed = params.methods.seeds[0]
    found = []
    for number, name in enumerate(params.methods.all):
        making = read_making(workspace.encoder(name, seed))
        described = making.description
        kind = str(described["kind"])
        role = (
            "ours"
            if name == OURS
            else "control"
            if name == params.report.control
            else _role(kind, making.weights.given)
        )
        found.append(Method(name, kind, number, role, about(described, params, making.weights.name)))
    return found


def _role(kind: str, given: bool) -> str:
    if kind in kinds(Floor):
        return "floor"
    return "control" if kind in (CONTINUE, "control") else "adapted" if given else "from scratch"


def about(described: dict[str, object], params: Params, started: str = "none") -> str:
    """A sentence about a method of this description, as it stands beside the weights.

    Args:
        described: the description.
        params: the budget.
        started: name of the weights that training started from; none: from scratch.
    """
    before, after = params.pretrain_decoder.passes, params.train_encoder.passes
    kind = str(described["kind"])
    if kind == OURS:
        return (
            f"the base encoder ({before} passes), then {after} passes with synthesized pairs: "
            "features that do not discriminate are perturbed, decoded into an image, and the encoder learns "
            "that nothing that matters has changed"
        )
    if kind == CONTINUE:
        return f"the same base encoder, {after} more passes with the contrastive loss alone: no pairs"
    if described.get("dims") == "random":
        return "like discern, but as many features are perturbed at random"
    if described.get("dims") == "discriminative":
        return "like discern, but the features that do discriminate are perturbed: this must hurt"
    known = kinds().get(kind)  # what an older version left may have a name of its day
    paper = known.about() if known else kind
    if kind in kinds(Floor):
        return f"{paper}, with corrected features" if described.get("components") else paper
    origin = "from scratch" if started == "none" else f"from {started}"
    return f"{paper}; {origin} for the whole budget of {before + after} encoder passes per image"
