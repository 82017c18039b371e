"""Small parameters of every kind of method that trains, for the tests that run over all of them."""

import copy
from typing import Any

import torch

from discern.methods.build import Setup, build, build_two_view
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.models.build import build_encoder
from discern.params.base import NEUTRAL, Adaptation
from discern.params.encoder import ResNet
from discern.params.methods import kinds
from discern.params.model import TrainedMethod
from discern.params.two_view import TwoView
from discern.training.adaptation import Adapted, prepare
from discern.training.objective import Objective

ENCODER = ResNet(kind="resnet18", width=8, stem="small_images")

SIZES = {"hidden": 32, "dim": 16}
QUEUE = {"temperature": 0.2, "batch_norm": True, "queue": 16, "momentum": 0.9, "allow_long_queue": False, **SIZES}
SMALL: dict[str, dict[str, Any]] = {
    "barlow_twins": {"redundancy": 0.005, **SIZES},
    "byol": {"momentum": 0.9, **SIZES},
    "colorization": {"width": 16, "blocks": 2},
    "dino": {
        "bottleneck": 64, "student_temperature": 0.1, "teacher_temperature": 0.04, "centre_momentum": 0.9,
        "momentum": 0.9, "batch_norm": True, **SIZES,
    },
    "jigsaw": {"permutations": 20, "tile": 0.85, "bottleneck": 16, "dropout": 0.5, "grayscale": 0.3},
    "lcr": {"projections": 8, "fitting_weight": 0.01, **QUEUE},
    "moco": QUEUE,
    "pmg": {"width": 16, "encoder_rate": 0.1},
    "rotation": {},
    "simclr": {"temperature": 0.5, **SIZES},
    "simclr_corrupted": {
        "temperature": 0.5, "corruption": {"kind": "dcl_jigsaw", "grid": 3, "reach": 2.0}, "sides": "one", **SIZES,
    },
    "simsiam": SIZES,
    "srgan": {
        "features": "generator", "channels": 8, "blocks": 1, "width": 8, "residual": False, "mse_share": 0.1,
        "content": {"kind": "mse"}, "adversarial_weight": 0.001, "lr": 1e-3,
    },
    "supervised": {"weights": "none", "label_smoothing": 0.1},
    "vicreg": {"invariance": 25.0, "variance": 25.0, "covariance": 1.0, **SIZES},
}  # fmt: skip


def small(kind: str, **changes: Any) -> Any:
    """The parameters of a kind, small, with changes."""
    model = kinds()[kind]
    rate = {"rate": 1.0} if issubclass(model, TrainedMethod) else {}
    return model.model_validate({"kind": kind, **rate, **SMALL[kind], **changes})


METHODS: dict[str, Any] = {kind: small(kind) for kind in kinds(TwoView) if kind in SMALL}
TRAINED: dict[str, Any] = {kind: small(kind) for kind in kinds() if kind in SMALL}


def objective(kind: str, images: int, size: int = 16, seed: int = 0) -> Objective:
    """The objective of a kind around a small encoder, with three classes."""
    encoder, labels = build_encoder(ENCODER, seed), torch.arange(images) % 3
    built = build(TRAINED[kind], Setup(encoder, images, seed, size, labels, classes=3))
    if isinstance(built, JointEmbedding):
        return ContrastiveObjective(built)
    assert isinstance(built, Objective)
    return built


def adapted(images: int) -> Objective:
    """SimCLR with every remedy that adds a term, a copy or rates of its own."""
    params = Adaptation.model_validate(
        {**NEUTRAL, "encoder_rate": 0.5, "layer_decay": 0.9, "fixed_stages": 1, "batch_norm_momentum": 0.05,
         "distillation": 0.5, "average": 0.8}
    )  # fmt: skip
    start = build_encoder(ENCODER, 0)
    encoder = copy.deepcopy(start)
    prepare(encoder, params)
    return Adapted(ContrastiveObjective(build_two_view(METHODS["simclr"], encoder, images, 0)), params, start)
