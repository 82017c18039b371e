"""Distance between images in a VGG-19's features (VGG54 of Ledig et al. 2017): it rests on ImageNet's labels."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.errors import ParamsError
from discern.images.views import normalise
from discern.models.files import read
from discern.models.origin import IMAGENET
from discern.models.precision import full
from discern.models.torchvision_weights import published
from discern.params.pretext import VGGContent

LAYER = "features.35"  # the last convolution before the fifth pooling, behind its ReLU as the paper defines it


class VGGDistance:
    """Mean squared difference of two images' feature maps, times the parameters' weight.

    No module: its 20 million weights are fixed and belong in no checkpoint.

    Args:
        params: where the weights come from, and the distance's weight.

    Raises:
        DownloadError: they cannot be downloaded.
        ModelError: their file is damaged, or none of weights.
        ParamsError: it is not there, or not one of a VGG-19.
    """

    def __init__(self, params: VGGContent) -> None:
        from torchvision.models import vgg19
        from torchvision.models.feature_extraction import create_feature_extractor

        network = vgg19(weights=None)
        try:
            network.load_state_dict(read(_weights(params.weights)))
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


def _weights(name: str) -> Path:
    """The file that the parameters name."""
    if name == IMAGENET:
        from torchvision.models import VGG19_Weights

        return published(VGG19_Weights[IMAGENET.upper()])
    if not Path(name).is_file():
        raise ParamsError(
            f"params.yaml: content.weights: {name}: no such file; name one of torchvision's vgg19 weights,"
            f" or write {IMAGENET} to download them"
        )
    return Path(name)
