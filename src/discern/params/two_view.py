"""Losses between two views of an image: each can be trained by itself, and be the L_C of ours."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from discern.params.model import TrainedMethod


class Contrastive(TrainedMethod):
    """What every loss has that tells an image's other view from other images."""

    temperature: float = Field(gt=0)
    hidden: int = Field(ge=8, description="width of the projector's hidden layer")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")


class SimCLR(Contrastive):
    """SimCLR: NT-Xent between two views (Chen et al. 2020)."""

    built_by: ClassVar[str] = "discern.methods.two_view.simclr"
    kind: Literal["simclr"]


class Queue(Contrastive):
    """What every loss against a queue of momentum-encoded keys has."""

    batch_norm: bool = Field(description="in the projector; false in MoCo v2, true in v3")
    queue: int = Field(ge=8, description="keys kept; at most the number of training images")
    momentum: float = Field(ge=0, lt=1, description="of the key encoder, per step")
    allow_long_queue: bool = Field(description="true: accept a queue longer than the training set")


class MoCo(Queue):
    """MoCo v2: InfoNCE against a queue of momentum-encoded keys (Chen et al. 2020)."""

    built_by: ClassVar[str] = "discern.methods.two_view.moco"
    kind: Literal["moco"]


class SimSiam(TrainedMethod):
    """SimSiam: predict the other view's embedding; its gradient is stopped (Chen & He 2021)."""

    built_by: ClassVar[str] = "discern.methods.two_view.simsiam"
    kind: Literal["simsiam"]
    hidden: int = Field(ge=8, description="width of the predictor's hidden layer")
    dim: int = Field(ge=8, description="width of the projector's layers and of the embedding")


class BYOL(TrainedMethod):
    """BYOL: predict a momentum encoder's embedding of the other view (Grill et al. 2020)."""

    built_by: ClassVar[str] = "discern.methods.two_view.byol"
    kind: Literal["byol"]
    hidden: int = Field(ge=8, description="width of the projector's and predictor's hidden layers")
    dim: int = Field(ge=8, description="width of the embedding")
    momentum: float = Field(ge=0, lt=1, description="of the target encoder, per step; constant")


class BarlowTwins(TrainedMethod):
    """Barlow Twins: the views' cross-correlation matrix is driven to the identity (Zbontar et al. 2021)."""

    built_by: ClassVar[str] = "discern.methods.two_view.barlow_twins"
    kind: Literal["barlow_twins"]
    redundancy: float = Field(gt=0, description="lambda: weight of the off-diagonal terms")
    hidden: int = Field(ge=8, description="width of the projector's two hidden layers")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")


class VICReg(TrainedMethod):
    """VICReg: near views, spread embeddings, uncorrelated dimensions (Bardes et al. 2022)."""

    built_by: ClassVar[str] = "discern.methods.two_view.vicreg"
    kind: Literal["vicreg"]
    invariance: float = Field(gt=0, description="lambda; 25 in the paper")
    variance: float = Field(gt=0, description="mu; 25 in the paper")
    covariance: float = Field(gt=0, description="nu; 1 in the paper")
    hidden: int = Field(ge=8, description="width of the projector's hidden layers")
    dim: int = Field(ge=8, description="width of the embedding the loss sees")


class DINO(TrainedMethod):
    """DINO: a student predicts its momentum teacher's assignment of the other view (Caron et al. 2021)."""

    built_by: ClassVar[str] = "discern.methods.two_view.dino"
    kind: Literal["dino"]
    hidden: int = Field(ge=8, description="width of the head's hidden layers")
    bottleneck: int = Field(ge=8, description="width of the normalised layer before the prototypes")
    dim: int = Field(ge=8, description="prototypes; 65,536 in the paper")
    batch_norm: bool = Field(description="in the head; the paper has it with a ResNet, not with a ViT")
    student_temperature: float = Field(gt=0, description="0.1 in the paper")
    teacher_temperature: float = Field(gt=0, description="0.04 in the paper")
    centre_momentum: float = Field(ge=0, lt=1, description="of the teacher's mean output; 0.9 in the paper")
    momentum: float = Field(ge=0, lt=1, description="of the teacher, per step; constant")


TwoView = Annotated[
    BarlowTwins | BYOL | DINO | MoCo | SimCLR | SimSiam | VICReg,
    Field(discriminator="kind"),
]
