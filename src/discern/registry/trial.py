"""A fresh process that loads a version as a server does, and predicts: `python trial.py FOLDER`.

It imports nothing of this project: the version's own code serves. What it found is one line; it ends with 1 where
the answers are not those of registration.
"""

import io
import sys
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

TOLERANCE = 1e-4  # of the largest feature: what another machine may round differently


def main(folder: Path) -> int:
    """Predict the examples that lie with the version and compare their features."""
    model = mlflow.pyfunc.load_model(str(folder))
    (file,) = folder.glob("data/*/examples.npz")
    with np.load(file, allow_pickle=False) as examples:
        images, expected = examples["images"], examples["features"]
    answer = model.predict(pd.DataFrame({"image": [_png(image) for image in images]}))
    error = np.abs(np.array(answer["embedding"].tolist()) - expected).max() / np.abs(expected).max()
    if not error <= TOLERANCE:
        sys.stderr.write(f"features differ from those of registration by {error:.1e} of the largest\n")
        return 1
    sys.stdout.write(f"{len(images)} examples give the features of registration\n")
    return 0


def _png(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
