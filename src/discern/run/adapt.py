"""Training that starts from the weights of `base`: the encoder as it comes, and what remembers it."""

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
from discern.training.adaptation import Adapted
from discern.training.objective import Objective

Images = npt.NDArray[np.uint8]

log = logging.getLogger(__name__)


def given_encoder(base: Base, weights: str, seed: int) -> ImageEncoder:
    """The encoder of `base` with these weights; what they do not decide, the seed does.

    Raises:
        ParamsError: there are no such weights for this encoder.
        DownloadError: they cannot be fetched.
        ModelError: a file of weights is missing, damaged or of another network.
    """
    encoder = build_encoder(base.encoder, seed)
    initialise(encoder, weights)
    return encoder


def adapt(base: Base, built: Objective | JointEmbedding, start: ImageEncoder | None) -> Objective:
    """What trains, with the remedies of `base.adaptation` where it starts from the weights of `base`.

    Args:
        base: the remedies.
        built: of a method, round an encoder that `prepare` has seen.
        start: the encoder with the given weights, kept and not trained; None: training does not start from them.
    """
    objective = ContrastiveObjective(built) if isinstance(built, JointEmbedding) else built
    if start is None or base.adaptation.neutral:
        return objective
    kind = objective.encoder.params.kind
    if objective.encoder.params != start.params:
        log.warning("this method leaves a network of its own (%s): base.adaptation does not apply", kind)
        return objective
    return Adapted(objective, base.adaptation, start)


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
