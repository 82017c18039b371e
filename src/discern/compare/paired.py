"""Whether two encoders differ on the same test images: a paired bootstrap over what each got right."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from discern.errors import DataError
from discern.evaluation.bootstrap import Interval, paired_difference


def difference(
    before: Sequence[pd.DataFrame], after: Sequence[pd.DataFrame], column: str, samples: int, seed: int
) -> Interval | None:
    """After minus before with its 95 % interval, outcomes averaged over seeds image by image.

    Args:
        before: outcomes.parquet of every seed, one row for each test image.
        after: the same of the other encoder; the numbers of seeds may differ.
        column: the outcome.
        samples: bootstrap samples.
        seed: of the resampling.

    Returns:
        None where either has no such outcome.

    Raises:
        DataError: they are not outcomes of the same images.
    """
    if not same_images([*before, *after]):
        raise DataError("the two were evaluated on different test images")
    if not before or not after or any(column not in frame for frame in (*before, *after)):
        return None
    theirs, ours = (
        np.stack([frame[column].to_numpy(np.float64, na_value=np.nan) for frame in frames]).mean(axis=0)
        for frames in (before, after)
    )
    if np.isnan(theirs + ours).all():
        return None
    return paired_difference(ours, theirs, samples, seed)


def same_images(frames: Sequence[pd.DataFrame]) -> bool:
    """Whether all frames have the same test images with the same labels, row by row."""
    return all(frame[["path", "label_id"]].equals(frames[0][["path", "label_id"]]) for frame in frames[1:])
