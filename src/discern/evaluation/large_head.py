"""The head of arXiv 2107.13973 on SRGAN's frozen generator: a convolution and two dense layers on the whole map.

Its published figures come from heads that no optimiser was given, so the same head on random weights
(`srgan_untrained`) is the control. A protocol of its own: never to be read beside a linear probe.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.embedding.features import Precision, inference, inputs
from discern.evaluation.findings import Labels, class_means
from discern.images.randomness import Stream, seeded, uniform
from discern.models.encoder import ImageEncoder
from discern.params.evaluation import LargeHead

if TYPE_CHECKING:
    from discern.images.packed import PackedSplit

Images = npt.NDArray[np.uint8]


class Head(nn.Module):
    """Convolution of stride 2, ReLU, hidden layer, ReLU, dropout, classes.

    Args:
        shape: (C, h, w) of the feature map.
        classes: number of logits.
        params: width and seed.
        dropout: probability that a hidden unit is left out.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, params: LargeHead, dropout: float) -> None:
        super().__init__()
        channels, height, width = shape
        self.seed, self.dropout = params.seed, dropout
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)  # heads differ in nothing but dropout
            self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
            self.hidden = nn.Linear(channels * -(-height // 2) * -(-width // 2), params.hidden)
            self.classes = nn.Linear(params.hidden, classes)

    def forward(self, feature_map: Tensor, index: Tensor | None = None, epoch: int = 0) -> Tensor:
        """Feature map (N, C, h, w) to logits (N, classes); with image numbers (N,), units drop out."""
        x = self.hidden(self.conv(feature_map).relu().flatten(1)).relu()
        if index is not None and self.dropout > 0:
            kept = uniform(index, x.shape[1], self.seed, epoch, Stream.HEAD_DROPOUT).to(x.device) >= self.dropout
            x = x * kept / (1 - self.dropout)
        logits: Tensor = self.classes(x)
        return logits


def large_head(
    encoder: ImageEncoder,
    train: "PackedSplit",
    val: "PackedSplit",
    test: "PackedSplit",
    params: LargeHead,
    device: torch.device,
    precision: Precision,
) -> dict[str, float]:
    """Train a head for each dropout on the training labels; nothing of the encoder moves.

    Args:
        encoder: on `device`.
        train: images without label are left out; at least two classes.
        val: its labels choose the dropout; with none, the first counts.
        test: at least one labelled image.
        params: heads and their training.
        device: where to compute.
        precision: of the feature maps; the heads are trained in float32.

    Returns:
        `top1`, `balanced` and `dropout` of the chosen head, and for every head `top1_dropoutPP`,
        `balanced_dropoutPP` and, where val has labels, `val_dropoutPP`, PP being the dropout in percent.
    """
    where = (device, params.batch_size, precision)
    known = {name: split.labels >= 0 for name, split in (("train", train), ("val", val), ("test", test))}
    channels, height, width = next(_maps(encoder, train.images[:1], *where)).shape[1:]
    figures: dict[str, float] = {}
    best = -1.0
    for dropout in params.dropouts:
        head = Head((channels, height, width), len(test.classes), params, dropout).to(device)
        _train(head, encoder, train.images, train.labels, params, *where)
        percent = round(100 * dropout)
        predicted = _predict(head, encoder, test.images, *where)[known["test"]]
        top1 = float((predicted == test.labels[known["test"]]).mean())
        balanced, _ = class_means(predicted, test.labels[known["test"]])
        figures |= {f"top1_dropout{percent}": top1, f"balanced_dropout{percent}": balanced}
        chosen_by = 0.0
        if known["val"].any():
            guesses = _predict(head, encoder, val.images, *where)
            chosen_by = float((guesses == val.labels)[known["val"]].mean())
            figures[f"val_dropout{percent}"] = chosen_by
        if chosen_by > best:
            best = chosen_by
            figures |= {"top1": top1, "balanced": balanced, "dropout": dropout}
    return figures


def _train(
    head: Head,
    encoder: ImageEncoder,
    images: Images,
    labels: Labels,
    params: LargeHead,
    device: torch.device,
    batch_size: int,
    precision: Precision,
) -> None:
    """Adam on the cross-entropy; every epoch in an order of its own."""
    rows = np.flatnonzero(labels >= 0)
    optimizer = torch.optim.Adam(head.parameters(), lr=params.lr)
    for epoch in range(params.epochs):
        order = rows[torch.randperm(len(rows), generator=seeded(params.seed, epoch, Stream.HEAD_ORDER)).numpy()]
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            (feature_map,) = _maps(encoder, images[part], device, batch_size, precision)
            targets = torch.from_numpy(labels[part]).to(device)
            loss = F.cross_entropy(head(feature_map, torch.from_numpy(part), epoch), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
            optimizer.step()


def _predict(
    head: Head, encoder: ImageEncoder, images: Images, device: torch.device, batch_size: int, precision: Precision
) -> Labels:
    """Class ids (n,) of images (n, S, S, 3)."""
    with torch.no_grad():
        best = [head(block).argmax(1).cpu() for block in _maps(encoder, images, device, batch_size, precision)]
    return torch.cat(best).numpy()


def _maps(
    encoder: ImageEncoder, images: Images, device: torch.device, batch_size: int, precision: Precision
) -> Iterator[Tensor]:
    """Feature maps (N, C, h, w) of successive batches, float32: made anew each time, they would fill a memory."""
    for start in range(0, len(images), batch_size):
        block = images[start : start + batch_size]
        with inference(encoder, device, precision):
            (x,) = inputs(block, device, batch_size)
            feature_map = encoder.feature_map(x).float()
        yield feature_map.clone()  # one made outside of inference mode may take part in a gradient
