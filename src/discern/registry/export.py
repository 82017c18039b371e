"""The encoder in formats that need none of this project's code: torch.export and ONNX, checked by reloading."""

import copy
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from discern.errors import ModelError
from discern.images.views import normalise
from discern.models.encoder import ImageEncoder

TOLERANCE = 1e-4  # of the largest feature: what other kernels may round differently
ONNX_OPSET = 18


class Deployed(nn.Module):
    """Images (N, S, S, 3) uint8 to features (N, D): what a program without this project has to give and gets."""

    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Normalise and encode."""
        features: Tensor = self.encoder(normalise(images.permute(0, 3, 1, 2)))
        return features


def export(encoder: ImageEncoder, images: npt.NDArray[np.uint8], folder: Path) -> npt.NDArray[np.float32]:
    """Write encoder.pt2 and encoder.onnx, both for any number of images, and verify them.

    Args:
        encoder: on the CPU, in eval mode.
        images: (N, S, S, 3) examples, at least two: an example of one would freeze the batch to one.
        folder: where to write.

    Returns:
        Features (N, D) of the examples.

    Raises:
        ModelError: the encoder holds what ONNX has no operator for, or an exported file, loaded anew, gives other
            features than the encoder.
    """
    settled = copy.deepcopy(encoder)
    for module in settled.modules():
        if isinstance(module, ImageEncoder):
            module.settle(images.shape[1])
    model = Deployed(settled).eval()
    examples = torch.from_numpy(np.array(images))
    with torch.inference_mode():
        expected = Deployed(encoder)(examples).numpy()
    batch = torch.export.Dim("batch", min=1)
    # strict: otherwise `len(x)` anywhere in an encoder would freeze the batch to the example's.
    exported = torch.export.export(model, (examples,), dynamic_shapes={"images": {0: batch}}, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of views of one storage, which is on the CPU
        torch.export.save(exported, folder / "encoder.pt2")
    _to_onnx(exported, examples, folder / "encoder.onnx")
    for name, run in (("encoder.pt2", run_pt2), ("encoder.onnx", run_onnx)):
        for count in (len(images), 1):
            verify(name, run(folder / name, images[:count]), expected[:count])
    return np.asarray(expected)


def _to_onnx(exported: torch.export.ExportedProgram, examples: Tensor, file: Path) -> None:
    try:
        torch.onnx.export(
            exported, (examples,), file, dynamo=True, opset_version=ONNX_OPSET, input_names=["images"],
            output_names=["features"], external_data=False, verbose=False,
        )  # fmt: skip
    except torch.onnx.errors.OnnxExporterError as error:
        raise ModelError(
            f"{file.name}: this encoder cannot be written as ONNX: {str(error).splitlines()[0]}"
        ) from error


def run_pt2(file: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Features by the program that torch.export saved."""
    with torch.inference_mode():
        features: Tensor = torch.export.load(file).module()(torch.from_numpy(np.array(images)))
    return features.numpy()


def run_onnx(file: Path, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Features by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (features,) = session.run(["features"], {"images": np.ascontiguousarray(images)})
    return np.asarray(features)


def verify(name: str, found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
    """Compare features (N, D).

    Raises:
        ModelError: they differ by more than TOLERANCE of the largest.
    """
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error <= TOLERANCE:
        raise ModelError(f"{name}: its features differ from the encoder's by {error:.1e} of the largest")
