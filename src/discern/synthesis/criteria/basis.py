"""The basis in which dimensions are scored and perturbed: the encoder's own, or principal components."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from discern.errors import ModelError


@dataclass(frozen=True)
class Basis:
    """Coefficients c = V (u - mu) of L2-normalised features u = y / |y|.

    In the raw basis V is the identity and mu is zero, so that a coefficient is a normalised feature.

    Attributes:
        kind: `raw` or `pca`.
        mean: mu (D,).
        vectors: V (D, D), one orthonormal direction a row.
        centre: mean coefficients over the training set (D,); zero for pca.
        sigma: standard deviation of every coefficient over the training set (D,).
    """

    kind: str
    mean: Tensor
    vectors: Tensor
    centre: Tensor
    sigma: Tensor

    def coefficients(self, y: Tensor) -> Tensor:
        """C (N, D) of features y (N, D)."""
        return (F.normalize(y) - self.mean) @ self.vectors.T

    def features(self, c: Tensor, norm: Tensor) -> Tensor:
        """Y (N, D) with coefficients c (N, D) and lengths `norm` (N, 1): the inverse of `coefficients`."""
        return (c @ self.vectors + self.mean) * norm

    def gradients(self, g: Tensor, y: Tensor) -> Tensor:
        """dL/dc (N, D) from dL/dy, both (N, D), holding every feature vector's length fixed."""
        length: Tensor = y.norm(dim=1, keepdim=True)
        return (g * length) @ self.vectors.T

    def to(self, device: torch.device) -> "Basis":
        """The same basis on a device."""
        moved = (t.to(device) for t in (self.mean, self.vectors, self.centre, self.sigma))
        return Basis(self.kind, *moved)


def fit_basis(y: Tensor, kind: str) -> Basis:
    """The basis of training features y (N, D), in float64 for the decomposition.

    Args:
        y: pooled features of the training set.
        kind: `raw` or `pca`; components come in the order of falling variance.
    """
    u = F.normalize(y.double())
    if kind == "raw":
        dim = y.shape[1]
        return Basis(kind, torch.zeros(dim), torch.eye(dim), u.mean(0).float(), u.std(0).float())
    mean = u.mean(0)
    # Eigenvectors of the covariance: D x D whatever the number of images.
    values, vectors = torch.linalg.eigh(torch.cov(u.T))
    order = values.argsort(descending=True)
    rows = vectors.T[order]
    # An eigenvector's sign is arbitrary; fixed, the same data gives the same file everywhere.
    rows = rows * torch.sign(rows.gather(1, rows.abs().argmax(1, keepdim=True)))
    sigma = values[order].clamp(min=0).sqrt()
    return Basis(kind, mean.float(), rows.float(), torch.zeros(len(mean)), sigma.float())


def save_basis(path: Path, basis: Basis, mask: Tensor) -> None:
    """Write the basis and the mask of non-discriminative dimensions (D,) or (N, D) as safetensors."""
    tensors = {
        "mean": basis.mean, "vectors": basis.vectors, "centre": basis.centre, "sigma": basis.sigma, "mask": mask,
    }  # fmt: skip
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, metadata={"kind": basis.kind})


def load_basis(path: Path) -> tuple[Basis, Tensor]:
    """The basis and the mask that `save_basis` wrote.

    Raises:
        ModelError: the file is missing.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file; run `dvc repro score_features`")
    with safe_open(path, framework="pt") as file:
        kind: str = file.metadata()["kind"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    mask = tensors.pop("mask")
    return Basis(kind, **tensors), mask
