"""From a method's description to what trains: the module that it names, imported when it is wanted."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from discern.errors import DataError
from discern.methods.parts.joint_embedding import JointEmbedding, load_heads
from discern.models.encoder import ImageEncoder
from discern.models.weights import load_encoder
from discern.params.base import Adaptation
from discern.params.model import MethodModel, TrainedMethod
from discern.params.two_view import TwoView
from discern.training.adaptation import prepare
from discern.training.objective import Objective

Built = JointEmbedding | Objective | ImageEncoder
"""A loss between two views, any other objective, or the encoder itself where nothing is trained."""


@dataclass(frozen=True)
class Extracted:
    """Features (N, D) of a packed split, and its label numbers (N,), negative where unknown."""

    features: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Setup:
    """What a method's `build` may use.

    Attributes:
        encoder: f as `base` describes it, initialised; train it, or return another one.
        images: size of the training set.
        seed: of the run; torch's own generator is seeded with it while the method is built.
        size: side of the images in pixels.
        labels: label numbers (images,) of the training set, for methods that see them.
        classes: number of classes.
        extract: frozen features of `train` or `val` by an encoder, for methods that are fitted, not trained.
    """

    encoder: ImageEncoder
    images: int
    seed: int
    size: int = 0
    labels: Tensor | None = None
    classes: int = 0
    extract: Callable[[ImageEncoder, Literal["train", "val"]], Extracted] | None = None


def build(description: MethodModel, setup: Setup) -> Built:
    """What a description stands for.

    The seed decides the weights of heads, and nothing else is disturbed.

    Raises:
        ParamsError: the method does not go with the images or the encoder.
    """
    module = importlib.import_module(description.built_by)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(setup.seed)
        built: Built = module.build(description, setup)
    if isinstance(description, TrainedMethod):
        assert not isinstance(built, ImageEncoder), "it is trained"
        built.rate = description.rate
    return built


def build_two_view(description: TwoView, encoder: ImageEncoder, images: int, seed: int) -> JointEmbedding:
    """The loss between two views that is described, around `encoder`.

    Args:
        description: its kind chooses the loss.
        encoder: f; trained in place.
        images: size of the training set, which bounds a queue.
        seed: of the heads' weights.

    Raises:
        DataError: fewer than two images, so that there is nothing to contrast with.
    """
    if images < 2:
        raise DataError(f"a contrastive loss needs at least 2 training images, found {images}")
    built = build(description, Setup(encoder, images, seed))
    assert isinstance(built, JointEmbedding), "TwoView describes nothing else"
    return built


def load_two_view(description: TwoView, folder: Path, images: int, adaptation: Adaptation) -> JointEmbedding:
    """The loss between two views, with the encoder and the heads that a folder holds.

    Args:
        description: of the loss.
        folder: of the base.
        images: size of the training set.
        adaptation: what of the encoder stays fixed.

    Raises:
        ModelError: a file is missing, damaged or of another network.
    """
    encoder = load_encoder(folder)
    prepare(encoder, adaptation)
    method = build_two_view(description, encoder, images, seed=0)
    load_heads(folder, method)
    return method
