"""Which kinds of arms there are, and how an arm is built from its parameters."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from discern.params.model import ParamModel

if TYPE_CHECKING:
    from torch import Tensor

    from discern.models.encoder import ImageEncoder

Role = Literal["loss", "self_supervised", "supervised", "untrained"]
"""`loss`: a loss between two views, which can also be the L_C of our method; `supervised`: sees the labels."""


@dataclass(frozen=True)
class Setup:
    """What a builder may use.

    Attributes:
        encoder: f as `base` describes it, initialised; train it, or return another one.
        images: size of the training set.
        seed: of the run; torch's own generator is seeded with it while the builder runs.
        size: side of the images in pixels.
        labels: label numbers (images,) of the training set, for supervised arms.
        classes: number of classes.
    """

    encoder: "ImageEncoder"
    images: int
    seed: int
    size: int = 0
    labels: "Tensor | None" = None
    classes: int = 0


Builder = Callable[[Any, Setup], Any]
AnyBuilder = TypeVar("AnyBuilder", bound=Builder)


@dataclass(frozen=True)
class Arm:
    """One kind of arm: the model of its parameters, its role, and what builds it."""

    params: type[ParamModel]
    role: Role
    build: Builder

    @property
    def about(self) -> str:
        """What it is, in one line."""
        return (self.params.__doc__ or "").strip().partition("\n")[0].rstrip(".")


_ARMS: dict[str, Arm] = {}


def register(params: type[ParamModel], role: Role) -> Callable[[AnyBuilder], AnyBuilder]:
    """Make a builder `(params, setup)` known under the `kind` of its parameters.

    The builder returns a loss between two views (`JointEmbedding`), any other `Objective`, or, for an untrained
    arm, the encoder itself.
    """

    def add(builder: AnyBuilder) -> AnyBuilder:
        for kind in get_args(params.model_fields["kind"].annotation):
            _ARMS[kind] = Arm(params, role, builder)
        return builder

    return add


def registered(*roles: Role) -> dict[str, Arm]:
    """Every kind by name, or those with one of the roles."""
    return {kind: arm for kind, arm in sorted(_ARMS.items()) if not roles or arm.role in roles}


def build(params: Any, setup: Setup) -> Any:
    """What an arm's parameters describe: a `JointEmbedding`, an `Objective` or an `ImageEncoder`.

    The seed decides the weights of heads and nothing else is disturbed.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setup.seed)
        built = _ARMS[params.kind].build(params, setup)
    built.rate = getattr(params, "rate", 1.0)
    return built
