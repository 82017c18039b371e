"""MLP probe: one hidden layer on standardised frozen features, for what no plane can separate.

A protocol of its own (frozen encoder and perceptron, as some papers report it): its figures are never to be read
beside those of a linear probe.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.embedding.features import FloatArray
from discern.evaluation.findings import Labelled, Labels
from discern.evaluation.probe import standardisation
from discern.images.randomness import Stream, seeded
from discern.params.evaluation import Mlp


def predict(train: Labelled, queries: FloatArray, params: Mlp, device: torch.device) -> Labels:
    """Train on labelled features and name the class of every query; the last epoch counts.

    Args:
        train: features (N,D) and class ids (N,); rows with a negative id are left out. At least two classes.
        queries: (M,D).
        params: width, epochs and rates; the seed decides everything random.
        device: where to compute.

    Returns:
        (M,) class ids, of classes that training shows.
    """
    features, labels = train
    known = labels >= 0
    X, labels = np.asarray(features[known], np.float64), labels[known]
    mean, scale = standardisation(X)
    classes, targets = np.unique(labels, return_inverse=True)

    def standardised(rows: FloatArray) -> Tensor:
        return torch.as_tensor((np.asarray(rows, np.float64) - mean) / scale, dtype=torch.float32, device=device)

    model = _model(X.shape[1], len(classes), params).to(device)
    _train(model, standardised(X), torch.as_tensor(targets, device=device), params)
    with torch.inference_mode():
        best = model(standardised(queries)).argmax(dim=1).cpu().numpy()
    return np.asarray(classes[best], dtype=np.int64)


def _model(dim: int, classes: int, params: Mlp) -> nn.Sequential:
    """Two layers whose weights the seed decides; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        return nn.Sequential(nn.Linear(dim, params.hidden), nn.ReLU(), nn.Linear(params.hidden, classes))


def _train(model: nn.Module, x: Tensor, targets: Tensor, params: Mlp) -> None:
    """Adam at a constant rate over x (N,D), shuffled anew in every epoch; the last batch may be smaller."""
    optimizer = torch.optim.Adam(model.parameters(), lr=params.lr, weight_decay=params.weight_decay, fused=True)
    for epoch in range(params.epochs):
        order = torch.randperm(len(x), generator=seeded(params.seed, epoch, Stream.MLP_ORDER)).to(x.device)
        for start in range(0, len(x), params.batch_size):
            rows = order[start : start + params.batch_size]
            loss = F.cross_entropy(model(x[rows]), targets[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch's, untyped
            optimizer.step()
