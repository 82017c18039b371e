"""Weights that an encoder starts from: torchvision's own, or a file's."""

import hashlib
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from discern.errors import DownloadError, ModelError, ParamsError
from discern.models.encoder import ImageEncoder
from discern.params.encoder import ResNet
from discern.settings import settings

NONE = "none"
IMAGENET = "imagenet1k_v1"
PREFIXES = ("module.", "backbone.", "encoder.")  # what others put before an encoder's names
CLASSIFIERS = ("fc.", "heads.")  # torchvision's names of what stands on an encoder


def initialise(encoder: ImageEncoder, weights: str) -> None:
    """Fill an encoder with given weights.

    Args:
        encoder: changed in place.
        weights: `none` changes nothing; `imagenet1k_v1` are torchvision's, which saw the labels of ImageNet;
            anything else is a file: .safetensors, or a state dict that torch saved as .pth or .pt.

    Raises:
        ParamsError: torchvision has no weights for this encoder.
        DownloadError: they cannot be fetched.
        ModelError: the file is missing, is none of weights, or does not fit the encoder.
    """
    if weights == NONE:
        return
    path = fetched(encoder) if weights == IMAGENET else Path(weights)
    fill(encoder, plain_names(read(path)), path)


def weight_files(*weights: str) -> list[Path]:
    """Those that are files of one's own, whose content decides a result that their name does not tell."""
    return [Path(name) for name in weights if name not in (NONE, IMAGENET)]


def fetched(encoder: ImageEncoder) -> Path:
    """Torchvision's file for this encoder.

    Raises:
        ParamsError: there is none for it.
        DownloadError: it cannot be fetched, or is not what its name says.
    """
    from torchvision.models import get_model_weights

    params = encoder.params
    if not isinstance(params, ResNet) or params.width != 64 or params.stem != "imagenet":
        raise ParamsError(
            f"weights: {IMAGENET} fits a base.encoder of kind resnet18 or resnet50, width 64, stem imagenet, not"
            f" {params.model_dump()}; give a path, or none"
        )
    return published(get_model_weights(params.kind)[IMAGENET.upper()])


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
            raise DownloadError(f"{entry.url}: {_first_line(error)}") from error
    begins = name.rpartition("-")[2].partition(".")[0]
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(begins):  # torch checks only what it has just fetched
        raise DownloadError(f"{path}: its sha256 begins with {found[: len(begins)]}, not {begins}; delete it")
    return path


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; nothing but weights is unpickled.

    Raises:
        ModelError: it is missing, or none of weights.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; weights are {NONE}, {IMAGENET} or the path of a file")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelError(f"{path}: damaged ({_first_line(error)})") from error
    if path.suffix not in (".pth", ".pt"):
        raise ModelError(f"{path}: not a .safetensors, .pth or .pt file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the error below says
            content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle can raise nearly anything, and torch's message is an essay
        raise ModelError(f"{path}: damaged, or more than weights in a pickle, which is not opened") from error
    if isinstance(content, Mapping):
        content = next((content[key] for key in ("state_dict", "model") if key in content), content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path}: not a state dict: save `model.state_dict()`, or it under the key state_dict")
    return dict(content)


def plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without classifiers, and without what others put before every name."""
    while True:
        state = {name: value for name, value in state.items() if not name.startswith(CLASSIFIERS)}
        prefix = next((p for p in PREFIXES if state and all(name.startswith(p) for name in state)), None)
        if prefix is None:
            return state
        state = {name.removeprefix(prefix): value for name, value in state.items()}


def fill(encoder: ImageEncoder, state: Mapping[str, Tensor], path: Path) -> None:
    """Copy weights that fit an encoder exactly.

    Raises:
        ModelError: they do not; it names the first that is missing, of another shape, or too many.
    """
    expected = encoder.state_dict()
    for name, tensor in expected.items():
        if name not in state:
            if name.endswith("num_batches_tracked"):  # older files lack it, and torch fills it in
                continue
            raise ModelError(f"{path}: {name} is missing; does base.encoder describe its network?")
        if state[name].shape != tensor.shape:
            raise ModelError(
                f"{path}: {name} is {tuple(state[name].shape)}, in base.encoder {tuple(tensor.shape)}"
            )
    for name in state:
        if name not in expected:
            raise ModelError(f"{path}: {name} is not in base.encoder; does it describe this network?")
    encoder.load_state_dict(dict(state))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
