"""Torchvision's weights, trained on the labels of ImageNet: fetched once into torch's own cache."""

import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch

from discern.errors import DownloadError, ParamsError
from discern.models.encoder import ImageEncoder
from discern.models.files import first_line, sha256
from discern.models.origin import IMAGENET, Origin
from discern.params.encoder import ResNet
from discern.settings import settings

LICENCE = "BSD-3-Clause"  # torchvision's; ImageNet's images are for research


def fetched(encoder: ImageEncoder) -> tuple[Path, Origin]:
    """Torchvision's file for this encoder, and where it comes from.

    Raises:
        ParamsError: there is none for it.
        DownloadError: it cannot be fetched, or is not what its name says.
    """
    from torchvision.models import get_model_weights

    params = encoder.params
    if not isinstance(params, ResNet) or params.width != 64 or params.stem != "imagenet":
        raise ParamsError(
            f"weights: {IMAGENET} fits a base.encoder of kind resnet18 or resnet50, width 64, stem imagenet, not"
            f" {params.model_dump()}; a network of kind timm takes pretrained, any takes a path, or none"
        )
    path = published(get_model_weights(params.kind)[IMAGENET.upper()])
    return path, Origin(IMAGENET, "torchvision", path.name, sha256(path), LICENCE, "yes")


def published(entry: Any) -> Path:
    """The file of torchvision's weights in torch's own cache, fetched where it is not there.

    Args:
        entry: of an enumeration of weights.

    Raises:
        DownloadError: it cannot be fetched, or is not what its name says.
    """
    name = Path(urlparse(entry.url).path).name
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    if not path.exists():
        if settings().offline:
            raise DownloadError(
                f"{path}: no such file, and DISCERN_OFFLINE is set; put {entry.url} there, or give the path of"
                f" weights instead of {IMAGENET}"
            )
        try:
            entry.get_state_dict(check_hash=True, weights_only=True, progress=sys.stderr.isatty())
        except (URLError, OSError, RuntimeError) as error:
            raise DownloadError(
                f"{entry.url}: {first_line(error)}; where there is no connection, put it at {path}"
            ) from error
    begins = name.rpartition("-")[2].partition(".")[0]
    found = sha256(path)
    if not found.startswith(begins):  # torch checks only what it has just fetched
        raise DownloadError(f"{path}: its sha256 begins with {found[: len(begins)]}, not {begins}; delete it")
    return path
