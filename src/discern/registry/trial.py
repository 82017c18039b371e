"""A fresh process that loads a version and predicts: `python -m discern.registry.trial FOLDER`.

It says what it found in one line, and ends with 1 where the answers are not those of registration.
"""

import io
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from discern.errors import DiscernError
from discern.registry.export import verify
from discern.registry.serving import Recogniser
from discern.settings import silence_telemetry


def main(folder: Path) -> int:
    """Predict the examples that lie with the version and compare their features."""
    model = Recogniser(folder)
    with np.load(folder / "examples.npz", allow_pickle=False) as examples:
        images, expected = examples["images"], examples["features"]
    answer = model.predict(pd.DataFrame({"image": [_png(image) for image in images]}))
    verify("predict", np.array(answer["embedding"].tolist(), np.float32), expected)
    sys.stdout.write(f"{len(images)} examples give the features of registration\n")
    return 0


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    silence_telemetry()
    try:
        sys.exit(main(Path(sys.argv[1])))
    except DiscernError as error:
        sys.exit(str(error))
