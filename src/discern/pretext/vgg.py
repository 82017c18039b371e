"""Distance between images in a VGG-19's features (VGG54 of Ledig et al. 2017): it rests on ImageNet's labels."""

from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.arms.srgan import VGGContent
from discern.data.views import normalise
from discern.errors import DownloadError, ParamsError
from discern.models.precision import full
from discern.settings import settings

LAYER = "features.35"  # the last convolution before the fifth pooling, behind its ReLU as the paper defines it
PUBLISHED = "imagenet1k_v1"


class VGGDistance:
    """Mean squared difference of two images' feature maps, times the parameters' weight.

    No module: its 20 million weights are fixed and belong in no checkpoint.

    Args:
        params: where the weights come from, and the distance's weight.

    Raises:
        DownloadError: they cannot be downloaded.
        ParamsError: their file is not there, or not one of a VGG-19.
    """

    def __init__(self, params: VGGContent) -> None:
        from torchvision.models import vgg19
        from torchvision.models.feature_extraction import create_feature_extractor

        network = vgg19(weights=None)
        try:
            network.load_state_dict(_published() if params.weights == PUBLISHED else _from_file(params.weights))
        except RuntimeError as error:
            raise ParamsError(f"{params.weights}: not the weights of torchvision's vgg19") from error
        self.weight = params.weight
        extractor: nn.Module = create_feature_extractor(network.eval(), {LAYER: "map"})
        self.extractor = extractor.requires_grad_(False)

    def __call__(self, restored: Tensor, original: Tensor) -> Tensor:
        """Distance of images (N, 3, S, S) about [-1, 1]."""
        self.extractor.to(restored.device, restored.dtype)
        with torch.no_grad():
            target = self._map(original)
        return self.weight * F.mse_loss(self._map(restored), target)

    def _map(self, images: Tensor) -> Tensor:
        feature_map: Tensor = self.extractor(normalise((images + 1) / 2))["map"]
        return full(feature_map)


def _published() -> dict[str, Any]:
    """Torchvision's weights, from its cache or downloaded; the name holds their checksum, which is compared."""
    from torchvision.models import VGG19_Weights

    weights = VGG19_Weights.IMAGENET1K_V1
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if settings().offline and not cached.is_file():
        raise DownloadError(f"{cached}: no such file, and DISCERN_OFFLINE is set; put {weights.url} there")
    try:
        state: dict[str, Any] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError) as error:
        raise DownloadError(f"{weights.url}: {error}") from error
    return state


def _from_file(name: str) -> dict[str, Any]:
    path = Path(name)
    if not path.is_file():
        raise ParamsError(
            f"params.yaml: content.weights: {name}: no such file; name one of torchvision's vgg19 weights,"
            f" or write {PUBLISHED} to download them"
        )
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    # Tensors only: nothing that a pickle could run.
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
