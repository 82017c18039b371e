"""Any network of timm up to global pooling: convolutional maps as they are, tokens laid back on their grid."""

import difflib
import math
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from discern.errors import ParamsError
from discern.images.views import MEAN, STD
from discern.models.convolution import use_products
from discern.models.encoder import ImageEncoder
from discern.params.encoder import Timm

# Networks whose cells have fixed places take one of these to accept images of any side; the others need none.
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})


class TimmEncoder(ImageEncoder):
    """A network of timm without its classifier; parameter names are timm's behind `network.`.

    Features are the mean of the feature map; of a transformer, the mean of the patches' tokens, since scoring,
    Grad-CAM and decoding rest on a map. Class token and registers take part in attention all the same. Positions
    are interpolated to the image's side, as timm does it.

    Args:
        params: the network's name.

    Raises:
        ParamsError: timm has no such network, or it gives neither a map nor tokens.
    """

    def __init__(self, params: Timm) -> None:
        super().__init__()
        self.params, self._name = params, params.name
        network: Any = create(params.name)  # timm's classes have nothing in common but what is used here
        self.network = network
        self.dim = int(network.num_features)
        config = network.pretrained_cfg
        self._scale, self._shift = _between(config.get("mean", MEAN), config.get("std", STD))
        use_products(self.network)

    def feature_map(self, x: Tensor) -> Tensor:
        """F: normalised images (N, 3, H, W) to the last feature map (N, D, H', W').

        Raises:
            ParamsError: the network does not take images of this side.
        """
        if (self._scale, self._shift) != ((1.0,) * 3, (0.0,) * 3):  # images come with ImageNet's statistics
            scale, shift = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in (self._scale, self._shift))
            x = torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))
        try:
            y: Tensor = self.network.forward_features(x)
        except AssertionError as error:
            raise ParamsError(
                f"pack.image_size = {x.shape[-1]}: {self._name} does not take it: {error}"
            ) from error
        if y.ndim == 3:  # (N, prefix + H' W', D)
            y = y[:, getattr(self.network, "num_prefix_tokens", 0) :].transpose(1, 2)
            height = round(math.sqrt(y.shape[2] * x.shape[2] / x.shape[3]))
            return y.reshape(*y.shape[:2], height, -1)
        return y.permute(0, 3, 1, 2) if getattr(self.network, "output_fmt", "NCHW") == "NHWC" else y

    def depths(self, coarse: bool) -> dict[str, int]:
        """Every parameter's stage or block by timm's own grouping."""
        matcher = self.network.group_matcher(coarse=coarse)
        found: dict[str, int] = group_parameters(self.network, matcher, reverse=True)
        return {f"network.{name}": depth for name, depth in found.items()}

    def settle(self, size: int) -> None:
        """Interpolate positions to images of this side once and for all, so that no forward pass has to."""
        if getattr(self.network, "dynamic_img_size", False):
            self.network.set_input_size(img_size=(size, size))
            self.network.dynamic_img_size = self.network.patch_embed.dynamic_img_size = False


def create(name: str) -> nn.Module:
    """The network with random weights, without classifier and pooling.

    Raises:
        ParamsError: timm has no such network.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ParamsError(f"base.encoder.name: timm {timm.__version__} has no network '{name}'{hint}")
    for options in ANY_SIZE:
        try:
            network: nn.Module = timm.create_model(
                name, pretrained=False, num_classes=0, global_pool="", **options
            )
        except TypeError:  # the option is not this network's
            if not options:
                raise
            continue
        return network
    raise AssertionError("the last of them is no option at all")


def _between(mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and shift from ImageNet's statistics to the network's own: x STD + MEAN = x' std + mean."""
    scale = tuple(s / own for s, own in zip(STD, std, strict=True))
    shift = tuple((m - own) / s for m, own, s in zip(MEAN, mean, std, strict=True))
    return scale, shift
