"""Given weights, frozen; their features as they are, or with corrections that cost no training."""

import itertools

import numpy as np
import torch

from discern.embedding.knn import vote
from discern.methods.build import Setup
from discern.models.corrected import Correction
from discern.models.encoder import ImageEncoder
from discern.params.floors import Frozen

K, TEMPERATURE = 20, 0.07  # of the vote that the correction is chosen by


def build(params: Frozen, setup: Setup) -> ImageEncoder:
    """The network of `base` with these weights, its features corrected where `components` lists how.

    The correction is that of the training images. Number of components and whitening are those that name most
    classes of val right by its nearest neighbours; of equals, and without labels, the first listed.
    """
    encoder = setup.encoder
    if not params.components:
        return encoder
    assert setup.extract is not None, "the stage gives it"
    train, val = (setup.extract(encoder, split) for split in ("train", "val"))
    correction = Correction(torch.from_numpy(train.features))
    known, asked = train.labels >= 0, val.labels >= 0

    def score(components: int, whitening: float) -> float:
        if not known.any() or not asked.any():
            return 0.0
        gallery, queries = (
            correction.apply(torch.from_numpy(split.features), components, whitening).numpy()
            for split in (train, val)
        )
        found = vote(gallery[known], train.labels[known], queries[asked], K, TEMPERATURE)
        return float(np.mean(found.predictions == val.labels[asked]))

    best = max(itertools.product(params.components, params.whitening), key=lambda choice: score(*choice))
    return correction.around(encoder, *best)
