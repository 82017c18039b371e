"""Any network of timm up to global pooling: convolutional maps as they are, tokens laid back on their grid."""

import difflib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import timm
import torch
from timm.models import group_parameters
from timm.models._manipulate import group_with_matcher
from torch import Tensor, nn

from discern.errors import ParamsError
from discern.images.views import MEAN, STD
from discern.models.convolution import use_products
from discern.models.encoder import ImageEncoder
from discern.params.encoder import Timm

# Networks whose cells have fixed places take one of these to accept images of any side; the others need none.
ANY_SIZE: tuple[dict[str, Any], ...] = ({"dynamic_img_size": True}, {"strict_img_size": False}, {})

# Where what only a classifier uses begins, in the order in which timm builds its networks: with the pooling where
# that is a part of its own, else with the first of these.
POOLING, CLASSIFIER = "global_pool", ("pre_logits", "fc_norm", "head")

# Of torch's messages: positions that images of this side do not have, and images that end before the network does.
OF_SIDES = ("size of tensor", "Kernel size can't be greater")


class TimmEncoder(ImageEncoder):
    """A network of timm without its classifier; parameter names are timm's behind `network.`.

    Features are the mean of the feature map; of a transformer, the mean of the patches' tokens, since scoring,
    Grad-CAM and decoding rest on a map. Class token and registers take part in attention all the same. Positions
    are interpolated to the image's side, as timm does it.

    Args:
        params: the network's name.

    Raises:
        ParamsError: timm has no such network, or none that gives a map or tokens.
    """

    params: Timm
    network: Any  # timm ships no types
    _scale: Tensor | None
    _shift: Tensor | None

    def __init__(self, params: Timm) -> None:
        super().__init__()
        self.params = params
        self.network = create(params.name)
        self.dim = int(self.network.num_features)
        # No feature depends on them: without a gradient, processes that train together would wait for one in vain.
        self._idle = _of_classifier(self.network)
        for name in self._idle:
            self.network.get_parameter(name).requires_grad_(False)
        scale, shift = _between(self.network.pretrained_cfg)
        same = scale == [1.0] * 3 and shift == [0.0] * 3  # images come with ImageNet's statistics
        # Buffers move with the module; torch.tensor in a forward pass would copy them to the device each time.
        for name, values in (("_scale", scale), ("_shift", shift)):
            self.register_buffer(name, None if same else torch.tensor(values).view(3, 1, 1), persistent=False)
        use_products(self.network)

    @property
    def stage_dims(self) -> list[int]:
        """Channels of the maps that `stages` gives; one where the resolution stays the same, as in a ViT."""
        return [*(self.network.feature_info[number]["num_chs"] for number in self._ends()), self.dim]

    def feature_map(self, x: Tensor) -> Tensor:
        """F: normalised images (N, 3, H, W) to the last feature map (N, D, H', W').

        Raises:
            ParamsError: the network does not take images of this side.
        """
        return self._as_map(self._run(self.network.forward_features, x), x)

    def stages(self, x: Tensor) -> list[Tensor]:
        """The last feature map of every resolution, from fine to coarse; the very last is `feature_map`'s.

        Raises:
            ParamsError: the network does not take images of this side.
        """
        if not (ends := self._ends()):
            return [self.feature_map(x)]
        y, maps = self._run(self.network.forward_intermediates, x, indices=ends)
        return [*maps, self._as_map(y, x)]

    def last_stage(self) -> nn.Module | None:
        """The last block of a transformer or stage of a convolutional network, and what follows it."""
        if not hasattr(self.network, "group_matcher"):
            return None
        names = [name for name, p in self.network.named_parameters() if name not in self._idle]
        matcher, nowhere = self.network.group_matcher(coarse=True), "~"  # timm lists last what belongs to no group
        named = ((name, None) for name in [*names, nowhere])
        groups = group_with_matcher(named, matcher, reverse=True)
        last = max((groups[name] for name in names if groups[name] != groups[nowhere]), default=0)
        return nn.ModuleList(_covering(self.network, {name for name in names if groups[name] >= last}))

    def depths(self, coarse: bool) -> dict[str, int]:
        """Every parameter's stage or block by timm's own grouping."""
        matcher = self.network.group_matcher(coarse=coarse)
        found: dict[str, int] = group_parameters(self.network, matcher, reverse=True)
        return {f"network.{name}": depth for name, depth in found.items()}

    def settle(self, size: int) -> None:
        """Interpolate positions to images of this side once and for all, so that no forward pass has to."""
        dynamic = getattr(self.network, "dynamic_img_size", False)
        if not dynamic or not hasattr(self.network, "pos_embed"):  # windows, as Swin's, have places of their own
            return
        self.network.set_input_size(img_size=(size, size))
        # Built anew: the parts that lay tokens out are told at construction that one side is all there is.
        with torch.random.fork_rng(devices=[]):
            settled = _built(self.params.name, img_size=size, dynamic_img_size=False)
        settled.load_state_dict(self.network.state_dict())
        weight = next(self.network.parameters())
        self.network = settled.to(weight.device, weight.dtype).train(self.network.training)

    def _ends(self) -> list[int]:
        """Numbers, among timm's feature maps, of those after which the resolution falls."""
        if not hasattr(self.network, "forward_intermediates"):
            return []
        reductions = [one["reduction"] for one in getattr(self.network, "feature_info", [])]
        return [n for n, (own, following) in enumerate(itertools.pairwise(reductions)) if own != following]

    def _normalised(self, x: Tensor) -> Tensor:
        """Images (N, 3, H, W) with the statistics that the network was made for, in x's type and layout."""
        if self._scale is None or self._shift is None:
            return x
        return torch.addcmul(self._shift.to(x.dtype), x, self._scale.to(x.dtype))

    def _as_map(self, y: Any, x: Tensor) -> Tensor:
        """What timm gives for images x, as a map (N, D, H', W')."""
        if not isinstance(y, Tensor) or y.ndim not in (3, 4):
            raise ParamsError(f"base.encoder.name: {self.params.name} gives neither a feature map nor tokens")
        if y.ndim == 4:
            return y.permute(0, 3, 1, 2) if getattr(self.network, "output_fmt", "NCHW") == "NHWC" else y
        tokens: Tensor = y[:, getattr(self.network, "num_prefix_tokens", 0) :].transpose(1, 2)  # (N, D, H' W')
        height = round(math.sqrt(tokens.shape[2] * x.shape[2] / x.shape[3]))
        return tokens.reshape(*tokens.shape[:2], height, -1)

    def _run(self, run: Callable[..., Any], x: Tensor, **options: Any) -> Any:
        """What timm gives for images x; a side that the network cannot take is told, not traced."""
        x = self._normalised(x)
        try:
            return run(x, **options)
        except (AssertionError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not any(part in str(error) for part in OF_SIDES):
                raise
            raise ParamsError(
                f"pack.image_size = {x.shape[-1]}: {self.params.name} does not take it: {error}"
            ) from error


def create(name: str) -> Any:
    """The network with random weights, without classifier and pooling.

    Raises:
        ParamsError: timm has no such network, or one that gives no feature map.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise ParamsError(f"base.encoder.name: timm {timm.__version__} has no network '{name}'{hint}")
    for options in ANY_SIZE:
        try:
            return _built(name, **options)
        except TypeError:  # the option is not this network's
            if not options:
                raise
        except AssertionError as error:  # some refuse to go without pooling
            raise ParamsError(f"base.encoder.name: {name} gives no feature map: {error}") from error
    raise AssertionError("the last of them is no option at all")


def _built(name: str, **options: Any) -> Any:
    return timm.create_model(name, pretrained=False, num_classes=0, global_pool="", **options)


def _of_classifier(network: nn.Module) -> set[str]:
    """Names of parameters that come after the feature map; some stay even where there are no classes."""
    children = [name for name, _ in network.named_children()]
    starts = [POOLING] if POOLING in children else [name for name in CLASSIFIER if name in children]
    start = min((children.index(name) for name in starts), default=len(children))
    return {name for name, _ in network.named_parameters() if name.partition(".")[0] in children[start:]}


def _covering(module: nn.Module, names: set[str]) -> Iterator[nn.Module]:
    """The largest modules inside, all of whose parameters are among those named."""
    own = {name for name, _ in module.named_parameters()}
    if own and own <= names:
        yield module
        return
    for name, child in module.named_children():
        yield from _covering(child, {one.removeprefix(f"{name}.") for one in names if one.startswith(f"{name}.")})


def _between(config: Any) -> tuple[list[float], list[float]]:
    """From ImageNet's statistics to the configured: x' = scale x + shift, where x STD + MEAN = x' std + mean."""
    mean, std = config.get("mean", MEAN), config.get("std", STD)
    scale = [s / own for s, own in zip(STD, std, strict=True)]
    shift = [(m - own) / s for m, own, s in zip(MEAN, mean, std, strict=True)]
    return scale, shift
