"""Training that starts from the weights of `base`: the encoder as it comes, and what remembers it."""

import copy
import logging

import numpy as np
import numpy.typing as npt
import torch

from discern.embedding.features import extract
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.models.build import build_encoder
from discern.models.corrected import Correction
from discern.models.encoder import ImageEncoder
from discern.models.pretrained import initialise
from discern.models.side_by_side import SideBySideEncoder, side_by_side
from discern.params.base import Base
from discern.run.context import Context
from discern.training.adaptation import Adapted
from discern.training.objective import Objective

Images = npt.NDArray[np.uint8]

log = logging.getLogger(__name__)


def given_encoder(ctx: Context, weights: str) -> ImageEncoder:
    """The encoder of `base` with these weights; what they do not decide, the seed does.

    Raises:
        ParamsError: there are no such weights for this encoder.
        DownloadError: they cannot be fetched.
        ModelError: a file of weights is missing, damaged or of another network.
    """
    encoder = build_encoder(ctx.params.base.encoder, ctx.seed)
    initialise(encoder, weights)
    return encoder


def adapt(ctx: Context, built: Objective | JointEmbedding, start: ImageEncoder | None) -> Objective:
    """What trains, with the remedies of `base.adaptation` where it starts from the weights of `base`.

    Args:
        ctx: the stage.
        built: of a method, round an encoder that `prepare` has seen.
        start: the encoder with the given weights, not to be trained; None: training does not start from them.
    """
    objective = ContrastiveObjective(built) if isinstance(built, JointEmbedding) else built
    adaptation = ctx.params.base.adaptation
    if start is None or adaptation.neutral:
        return objective
    if objective.encoder.params != start.params:
        log.warning(
            "%s leaves a network of its own (%s): base.adaptation does not apply",
            ctx.stage,
            objective.encoder.params.kind,
        )
        return objective
    return Adapted(objective, adaptation, copy.deepcopy(start))


def finished(objective: Objective, images: Images, base: Base, device: torch.device) -> ImageEncoder:
    """The encoder that is left; where two stand side by side, both are corrected by the training images.

    Args:
        objective: trained.
        images: of training (N, S, S, 3).
        base: components, whitening, batch size and precision.
        device: where to compute.
    """
    encoder = objective.kept()
    if not isinstance(encoder, SideBySideEncoder):
        return encoder
    parts = []
    for part in (encoder.start, encoder.trained):
        correction = Correction(torch.from_numpy(extract(part, images, device, base.batch_size, base.precision)))
        parts.append(correction.around(part, base.adaptation.components, base.adaptation.whitening))
    return side_by_side(*parts)
