"""Files of weights: their tensors by name. Of pickles nothing but tensors and plain values is opened."""

import hashlib
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from discern.errors import ModelError

PICKLES = (".pth", ".pt", ".ckpt", ".tar", ".bin")  # .pth.tar is what MoCo's authors publish
SUFFIXES = (".safetensors", *PICKLES)
# Where checkpoints keep their weights beside optimisers and counters; of DINO and I-JEPA the teacher is used.
KEYS = ("teacher", "target_encoder", "state_dict", "model")


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU; nothing but weights is unpickled.

    Raises:
        ModelError: it is missing, or none of weights.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file; give the path of one that ends in {', '.join(SUFFIXES)}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ModelError(f"{path}: damaged ({first_line(error)})") from error
    if path.suffix not in PICKLES:
        raise ModelError(f"{path}: not a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file")
    content = _unpickled(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(f"{path}: not a state dict: save `model.state_dict()`, or it under the key state_dict")
    return dict(content)


def metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says of itself; nothing of other files.

    Raises:
        ModelError: it is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise ModelError(f"{path}: damaged ({first_line(error)})") from error


def sha256(path: Path) -> str:
    """The checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _unpickled(path: Path) -> Any:
    try:
        # Checkpoints of DINO and MAE keep the arguments of their command, which are plain values.
        with warnings.catch_warnings(), torch.serialization.safe_globals([Namespace]):
            warnings.simplefilter("ignore")  # of what the error below says
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle can raise nearly anything, and torch's message is an essay
        raise ModelError(f"{path}: damaged, or more than weights in a pickle, which is not opened") from error
