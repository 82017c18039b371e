"""How far the criteria agree with the truth, measured with labels that nothing else in this stage may see."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor

from discern.images.packed import PackedSplit

Numbers = NDArray[np.float64]


def agreement(coefficients: Tensor, table: pd.DataFrame, split: PackedSplit) -> dict[str, float]:
    """Spearman correlation of each criterion with the share of a dimension's variance between classes.

    Args:
        coefficients: (N, D) of the training images.
        table: columns variance and importance, one row a dimension.
        split: its labels are read for this figure only.

    Returns:
        `variance_agreement` and `importance_agreement`; empty without labels of two classes.
    """
    known = split.labels >= 0
    if len(set(split.labels[known].tolist())) < 2:
        return {}
    share = between_share(coefficients.double().numpy()[known], split.labels[known])
    return {
        f"{criterion}_agreement": float(spearmanr(table[criterion], share).statistic)
        for criterion in ("variance", "importance")
    }


def between_share(values: Numbers, groups: NDArray[np.int64]) -> Numbers:
    """Share (D,) of the variance of values (N, D) that lies between the groups' means (N,)."""
    total = values.var(axis=0)
    between = np.zeros_like(total)
    for group in np.unique(groups):
        member = groups == group
        between += member.mean() * (values[member].mean(axis=0) - values.mean(axis=0)) ** 2
    share: Numbers = between / np.maximum(total, 1e-12)
    return share
