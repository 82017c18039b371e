"""Losses between two views written as loops over images and dimensions, from the papers' formulas.

Each takes a method in evaluation mode and the features y1, y2 (N, D) of both views, and gives the loss in its
graph.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Reference = Callable[[Any, Tensor, Tensor], Tensor]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / (a.pow(2).sum().sqrt() * b.pow(2).sum().sqrt())


def simclr(method: Any, y1: Tensor, y2: Tensor) -> Tensor:
    z = [*method.projector(y1), *method.projector(y2)]
    n, total, t = len(y1), torch.zeros(()), method.loss.temperature
    for i in range(2 * n):
        others = [torch.exp(cosine(z[i], z[j]) / t) for j in range(2 * n) if j != i]
        total = total - torch.log(torch.exp(cosine(z[i], z[(i + n) % (2 * n)]) / t) / sum(others))
    return total / (2 * n)


def moco(method: Any, y1: Tensor, y2: Tensor) -> Tensor:
    total, t = torch.zeros(()), method.params.temperature
    for y, own in zip(y1, y2, strict=True):
        query = F.normalize(method.projector(y[None])[0], dim=0)
        key = F.normalize(method.key_projector(own[None])[0], dim=0).detach()
        near = torch.exp(query @ key / t)
        total = total - torch.log(near / (near + sum(torch.exp(query @ k / t) for k in method.queue)))
    return total / len(y1)


def simsiam(method: Any, y1: Tensor, y2: Tensor) -> Tensor:
    total = torch.zeros(())
    for a, b in ((y1, y2), (y2, y1)):
        predictions, targets = method.predictor(method.projector(a)), method.projector(b).detach()
        for p, z in zip(predictions, targets, strict=True):
            total = total - cosine(p, z) / (2 * len(y1))
    return total


def byol(method: Any, y1: Tensor, y2: Tensor) -> Tensor:
    total = torch.zeros(())
    for a, b in ((y1, y2), (y2, y1)):
        predictions, targets = method.predictor(method.projector(a)), method.key_projector(b).detach()
        for p, z in zip(predictions, targets, strict=True):
            difference = p / p.norm() - z / z.norm()
            total = total + difference.pow(2).sum() / (2 * len(y1))
    return total


def barlow_twins(method: Any, y1: Tensor, y2: Tensor) -> Tensor:
    columns = []
    for y in (y1, y2):
        z = method.projector(y)
        columns.append([(c - c.mean()) / (c.var(unbiased=False) + 1e-5).sqrt() for c in z.T])
    total = torch.zeros(())
    for i, a in enumerate(columns[0]):
        for j, b in enumerate(columns[1]):
            c = (a * b).sum() / len(y1)
            total = total + ((1 - c) ** 2 if i == j else method.loss.lambda_param * c**2)
    return total


def vicreg(method: Any, y1: Tensor, y2: Tensor) -> Tensor:
    """As in the authors' code, whose variance term is the mean of the two views'."""
    z1, z2 = method.projector(y1), method.projector(y2)
    n, d = z1.shape
    invariance = sum((a - b) ** 2 for a, b in zip(z1.flatten(), z2.flatten(), strict=True)) / (n * d)
    variance, covariance = torch.zeros(()), torch.zeros(())
    for z in (z1, z2):
        centred = z - z.mean(0)
        for i in range(d):
            std = (centred[:, i].pow(2).sum() / (n - 1) + 1e-4).sqrt()
            variance = variance + torch.relu(1 - std) / (2 * d)
            for j in range(d):
                if i != j:
                    covariance = covariance + ((centred[:, i] * centred[:, j]).sum() / (n - 1)) ** 2 / d
    weights = method.loss
    loss: Tensor = weights.lambda_param * invariance + weights.mu_param * variance + weights.nu_param * covariance
    return loss


def dino(method: Any, y1: Tensor, y2: Tensor) -> Tensor:
    total, p = torch.zeros(()), method.params
    for a, b in ((y1, y2), (y2, y1)):
        students, teachers = method.head(a), method.teacher_head(b).detach()
        for s, t in zip(students, teachers, strict=True):
            answer = torch.softmax((t - method.centre) / p.teacher_temperature, 0)
            for k in range(p.dim):
                total = total - answer[k] * torch.log_softmax(s / p.student_temperature, 0)[k] / (2 * len(y1))
    return total


REFERENCES: dict[str, Reference] = {
    "barlow_twins": barlow_twins,
    "byol": byol,
    "dino": dino,
    "moco": moco,
    "simclr": simclr,
    "simsiam": simsiam,
    "vicreg": vicreg,
}
