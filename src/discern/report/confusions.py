"""Which classes our linear probe mistakes for which, from data/embeddings/discern/SEED/confusion.csv."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from discern.params.pipeline import OURS
from discern.workspace import Workspace


@dataclass(frozen=True)
class Confused:
    """`images` test images of class `true`, of `of` that there are, were taken for `predicted`."""

    true: str
    predicted: str
    images: int
    of: int


def most_confused(workspace: Workspace, seed: int, count: int) -> list[Confused]:
    """The pairs of classes with most mistakes, at most `count`; of equals, the first by name.

    Args:
        workspace: where the matrix lies.
        seed: of the encoder.
        count: pairs wanted; none are found without the file.
    """
    path = workspace.embeddings(OURS, seed) / "confusion.csv"
    if not path.is_file():
        return []
    # A class may be called "NA" or "1": names stay what they are.
    frame = pd.read_csv(path, dtype={"true": str}, keep_default_na=False).set_index("true")
    matrix = frame.to_numpy(np.int64)  # (C,C), rows true
    wrong = matrix - np.diag(np.diag(matrix))
    rows, columns = np.unravel_index(np.argsort(-wrong, axis=None, kind="stable")[:count], wrong.shape)
    return [
        Confused(str(frame.index[i]), str(frame.columns[j]), int(wrong[i, j]), int(matrix[i].sum()))
        for i, j in zip(rows, columns, strict=True)
        if wrong[i, j]
    ]
