"""What every encoder offers."""

from torch import Tensor, nn

from discern.models.origin import Origin, joined
from discern.models.precision import full
from discern.params.encoder import NetworkModel


class ImageEncoder(nn.Module):
    """f: normalised images (N, 3, H, W) to features (N, D).

    Attributes:
        dim: D.
        params: the description that `build_encoder` makes it from.
        given: the weights that it was filled with before training.
    """

    dim: int
    params: NetworkModel
    given: Origin = Origin()

    @property
    def origin(self) -> Origin:
        """Where weights come from that were given to it, or to encoders inside it."""
        return joined([module.given for module in self.modules() if isinstance(module, ImageEncoder)])

    def feature_map(self, x: Tensor) -> Tensor:
        """F: normalised images (N, 3, H, W) to the last feature map (N, D, H', W')."""
        raise NotImplementedError

    @property
    def stage_dims(self) -> list[int]:
        """Channels of the maps that `stages` gives, from fine to coarse."""
        return [self.dim]

    def stages(self, x: Tensor) -> list[Tensor]:
        """The feature maps (N, D_i, H_i, W_i) of falling resolution, of which `feature_map` gives the last."""
        return [self.feature_map(x)]

    def settle(self, size: int) -> None:
        """Prepare for images of this side alone, as exports are; by default every side is as good."""

    def last_stage(self) -> nn.Module | None:
        """The stage that gives the last feature map, to be trained alone; None where an encoder knows of none."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Y = f(x): normalised images (N, 3, H, W) to pooled features (N, D), in full precision."""
        return full(self.feature_map(x)).mean((2, 3))

    def depths(self, coarse: bool) -> dict[str, int]:  # noqa: ARG002  # some have no order
        """Every parameter's stage (or block, where not coarse), counted from the image; empty: not known."""
        return {}


def has_feature_map(encoder: ImageEncoder) -> bool:
    """False where features are not the mean of a feature map, so that Grad-CAM has no closed form."""
    return type(encoder).forward is ImageEncoder.forward
