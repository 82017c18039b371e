"""SRGAN as pretext (Ledig et al. 2017, arXiv 1609.04802): restore what downscaling took away.

Two departures from the paper. Generator and discriminator move at once, along gradients at the same weights, where
the paper updates one and then the other. And they share one forward pass of the discriminator over the restored
images, so that a step of the second stage costs three passes and batch statistics take every image in once.
"""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.errors import ParamsError
from discern.images.views import UNCOLOURED, Augment, denormalise
from discern.methods.build import Setup
from discern.methods.pretext.srgan.comparison import write_comparison
from discern.methods.pretext.srgan.networks import (
    SCALE,
    DiscriminatorEncoder,
    GeneratorEncoder,
    Verdict,
    bicubic,
    downscale,
    signed,
    unsigned,
)
from discern.models.build import build_encoder
from discern.models.encoder import ImageEncoder
from discern.models.precision import full
from discern.params.pretext import SRGAN, MSEContent
from discern.training.objective import Batch, Objective, Terms

Content = Callable[[Tensor, Tensor], Tensor]
"""Restored and original images (N, 3, S, S) about [-1, 1] → their distance."""


class SRGANObjective(Objective):
    """Mean squared error first; then content loss and the discriminator's verdict.

    The images are whole ones, where the paper takes crops of larger ones. Everything is trained by Adam. The
    discriminator's second moments are zero until the second stage begins and then counted as if they were old, so
    that its first hundred steps are up to six times as long as `lr` says.

    Args:
        params: networks, losses and rate.
        size: side of a view in pixels, a multiple of four.
        seed: of the networks' weights.

    Attributes:
        passes: the mean over both stages, rounded up: one of the generator in the first; of the generator, and of
            the discriminator on real and on restored images, in the second.
    """

    def __init__(self, params: SRGAN, size: int, seed: int) -> None:
        super().__init__()
        generator, discriminator = build_encoder(params.generator, seed), build_encoder(params.discriminator, seed)
        assert isinstance(generator, GeneratorEncoder)
        assert isinstance(discriminator, DiscriminatorEncoder)
        self.generator, self.discriminator = generator, discriminator
        self.verdict = Verdict(discriminator.dim, size)
        self.encoder: ImageEncoder = generator if params.features == "generator" else discriminator
        self.params, self.adam_lr = params, params.lr
        self.passes = math.ceil(params.mse_share + 3 * (1 - params.mse_share))
        self.vgg: Content | None = None
        if not isinstance(params.content, MSEContent):
            from discern.methods.pretext.srgan.vgg import VGGDistance

            self.vgg = VGGDistance(params.content)

    @property
    def adam(self) -> nn.Module:
        """Both networks."""
        return self

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """Every image, flipped or not."""
        images = denormalise(geometric(augment)(batch.images, batch.index, batch.epoch, 0))  # (N, 3, S, S)
        low, original = downscale(images), signed(images)
        features = self.generator.trunk(low)
        restored = self._restore(features, low)
        embedding = _embedding(features)
        if batch.step < round(self.params.mse_share * batch.steps):
            content = F.mse_loss(restored, original)
            none = content.new_zeros(())
            parts = {"content": content, "adversarial": none, "discriminator": none}
            return Terms(content + self._unused(), parts, embedding)
        content = F.mse_loss(restored, original)
        if self.vgg is not None:
            content = content + self.vgg(restored, original)
        features, real = self._judge(original)
        adversarial, fake = self._adversarial(restored)
        discriminator = F.softplus(-real).mean() + fake
        loss = content + self.params.adversarial_weight * adversarial + discriminator
        if self.encoder is self.discriminator:
            embedding = _embedding(features)
        parts = {"content": content, "adversarial": adversarial, "discriminator": discriminator}
        return Terms(loss, parts, embedding)

    def chance(self, batch_size: int) -> None:  # noqa: ARG002  # no batch has one
        """A loss of pixels has no chance level."""
        return

    def leave(self, folder: Path, val_images: npt.NDArray[np.uint8], device: torch.device) -> dict[str, float]:
        """Restored images beside the encoder, and how good they are; in float32."""
        self.generator.to(device).eval()

        def restore(low: Tensor) -> Tensor:
            return unsigned(self._restore(self.generator.trunk(low), low))

        figures = write_comparison(folder, val_images, device, restore)
        return {f"super_resolution.{name}": value for name, value in figures.items()}

    def _restore(self, features: Tensor, low: Tensor) -> Tensor:
        """The trunk's features of low resolution (N, 3, S/4, S/4) to images (N, 3, S, S) about [-1, 1]."""
        restored = self.generator.restore(features)
        return restored + signed(bicubic(low)) if self.params.residual else restored

    def _judge(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's feature map of images (N, 3, S, S) about [-1, 1], and its logits (N,)."""
        features = self.discriminator.of_signed(images)
        return features, self.verdict(features)

    def _adversarial(self, restored: Tensor) -> tuple[Tensor, Tensor]:
        """The generator's and the discriminator's loss of restored images, from one pass of the discriminator.

        Neither reaches the other's weights: the discriminator sees a copy that is cut off from the generator, and
        the generator gets the first loss's gradient by that copy.
        """
        shown = restored.detach().requires_grad_()
        logits = self._judge(shown)[1]
        adversarial = F.softplus(-logits).mean()
        (gradient,) = torch.autograd.grad(adversarial, shown, retain_graph=True)
        carrier = (restored * gradient).sum()
        return adversarial.detach() + carrier - carrier.detach(), F.softplus(logits).mean()

    def _unused(self) -> Tensor:
        """Zero, in which the discriminator takes part: several processes wait for the gradient of everything."""
        unused = [*self.discriminator.parameters(), *self.verdict.parameters()]
        return 0 * torch.stack([p.sum() for p in unused]).sum()


def geometric(augment: Augment) -> Augment:
    """Flips alone, in full precision: a crop that is resized would be smooth, and too easy to restore."""
    return augment.changed({**UNCOLOURED, "crop_area": (1.0, 1.0)}, torch.float32)


def _embedding(feature_map: Tensor) -> Tensor:
    """Normalised pooled features (N, D) of a feature map (N, D, h, w)."""
    return F.normalize(full(feature_map.detach()).mean((2, 3)))


def build(params: SRGAN, setup: Setup) -> SRGANObjective:
    """No chance level: a loss of pixels has none.

    Raises:
        ParamsError: the images cannot be downscaled evenly.
    """
    if setup.size % SCALE:
        raise ParamsError(
            f"params.yaml: pack.image_size = {setup.size}: srgan downscales by {SCALE}; choose a multiple of it"
        )
    return SRGANObjective(params, setup.size, setup.seed)
