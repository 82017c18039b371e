"""Classifiers that supervised training ends with, kept beside their encoder: logits of its images."""

from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from discern.errors import ModelError
from discern.models.convolution import use_products
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.models.resnet import ResNetEncoder
from discern.models.weights import load_module, read_architecture, save_module
from discern.params.model import ParamModel


class Linear(ParamModel):
    """One layer on pooled features."""

    kind: Literal["linear"]
    dim: int = Field(ge=1, description="of the features")
    classes: int = Field(ge=2)


class Granular(ParamModel):
    """PMG's: a classifier for each of a ResNet's last stages and one for all together."""

    kind: Literal["pmg"]
    dims: list[int] = Field(min_length=1, description="channels of the stages' maps")
    width: int = Field(ge=2, description="channels that each stage's map is brought to")
    classes: int = Field(ge=2)


Description = Annotated[Linear | Granular, Field(discriminator="kind")]
DESCRIPTION: TypeAdapter[Linear | Granular] = TypeAdapter(Description)


class Classifier(nn.Module):
    """What tells the classes apart.

    Attributes:
        params: the description that it is made from.
    """

    params: Linear | Granular

    def scores(self, encoder: ImageEncoder, x: Tensor) -> dict[str, Tensor]:
        """Logits (N, C) of normalised images (N, 3, H, W), by name where there are several; the last counts."""
        raise NotImplementedError


class LinearClassifier(Classifier, nn.Linear):
    """A linear layer on pooled features (N, D)."""

    def __init__(self, params: Linear) -> None:
        super().__init__(params.dim, params.classes)
        self.params = params

    def scores(self, encoder: ImageEncoder, x: Tensor) -> dict[str, Tensor]:
        """The layer's logits as `linear`."""
        return {"linear": full(self(encoder(x)))}


class GranularClassifier(Classifier):
    """PMG's heads (Du et al. 2020, arXiv 2003.03836): one for each stage, and one for their concatenation.

    As in the authors' code, but for the momentum of batch normalisation after convolutions: theirs is 0.01, with
    which running statistics lag behind in runs of fewer than a thousand steps; ours is torch's 0.1.
    """

    def __init__(self, params: Granular) -> None:
        super().__init__()
        self.params = params
        width, classes = params.width, params.classes
        self.blocks = nn.ModuleList(_convolutions(dim, width) for dim in params.dims)
        self.heads = nn.ModuleList(_head(width, width // 2, classes) for _ in params.dims)
        self.together = _head(width * len(params.dims), width // 2, classes)
        use_products(self)
        self.to(memory_format=torch.channels_last)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits (heads, N, C) of the stages' maps (N, D, h, w), the concatenation's last."""
        # Global: the authors' pooling windows are the maps of a 448 px image.
        pooled = [block(x).amax((2, 3)) for block, x in zip(self.blocks, maps, strict=True)]  # (N, width) each
        logits = [head(y) for head, y in zip(self.heads, pooled, strict=True)]
        return full(torch.stack([*logits, self.together(torch.cat(pooled, dim=1))]))

    def scores(self, encoder: ImageEncoder, x: Tensor) -> dict[str, Tensor]:
        """Logits of the `concatenation`, and the sum of all heads' as `combined`."""
        assert isinstance(encoder, ResNetEncoder)
        logits = self(encoder.stages(x)[-len(self.blocks) :])
        return {"concatenation": logits[-1], "combined": logits.sum(0)}


def _convolutions(channels: int, width: int) -> nn.Sequential:
    """A stage's map (N, channels, h, w) to (N, width, h, w)."""
    return nn.Sequential(
        nn.Conv2d(channels, width // 2, 1, bias=False),
        nn.BatchNorm2d(width // 2),
        nn.ReLU(),
        nn.Conv2d(width // 2, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


def _head(dim: int, hidden: int, classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm1d(dim), nn.Linear(dim, hidden), nn.BatchNorm1d(hidden), nn.ELU(), nn.Linear(hidden, classes)
    )


def save_classifier(folder: Path, classifier: Classifier) -> None:
    """Write classifier.safetensors and classifier.json."""
    save_module(folder, "classifier", classifier, classifier.params.model_dump())


def load_classifier(folder: Path) -> Classifier:
    """The classifier of a folder that `save_classifier` wrote, in eval mode on the CPU.

    Raises:
        ModelError: a file is missing, damaged or does not fit the description beside it.
    """
    try:
        params = DESCRIPTION.validate_python(read_architecture(folder, "classifier"))
    except ValidationError as error:
        raise ModelError(f"{folder / 'classifier.json'}: not a classifier's description: {error}") from error
    classifier = LinearClassifier(params) if isinstance(params, Linear) else GranularClassifier(params)
    load_module(folder, "classifier", classifier)
    return classifier.eval()
