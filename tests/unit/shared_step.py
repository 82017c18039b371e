"""Two training steps of every objective in float64, alone or as one of the processes that torchrun started."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from discern.images.loading import Budget, ImageStore
from discern.images.views import Augment
from discern.methods.build import build_two_view
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.models.build import build_encoder
from discern.models.decoder import build_decoder
from discern.params.encoder import Timm
from discern.params.load import load
from discern.params.synthesis import Decoder, TrainEncoder
from discern.synthesis.pairs.objective import PairObjective
from discern.synthesis.pairs.sources import OfflinePairs
from discern.training.distributed import World
from discern.training.feed import Feed
from discern.training.objective import Objective
from discern.training.schedule import plan
from discern.training.step import TrainingStep
from tests.methods import ENCODER, METHODS, TRAINED, adapted, objective

CPU = torch.device("cpu")
IMAGES, SIZE, BATCH = 24, 16, 8


def pixels(*shape: int) -> ImageStore:
    array = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageStore(array.numpy(), CPU, Budget(2**30))


def plain(kind: str) -> Objective:
    return objective(kind, IMAGES, SIZE)


def of_timm(name: str) -> Objective:
    encoder = build_encoder(Timm(kind="timm", name=name), 0)
    return ContrastiveObjective(build_two_view(METHODS["simclr"], encoder, IMAGES, 0))


def pairs(kind: str) -> Objective:
    method = build_two_view(METHODS[kind], build_encoder(ENCODER, 0), IMAGES, 0)
    decoder = build_decoder(Decoder(width=16, resolution=16), method.encoder.dim, 0)
    params = TrainEncoder(
        passes=4, pair_weight=1.0, reconstruction_weight=0.1, pair="real", source="offline", batch_norm="separate",
        augment=True, warmup=0.0,
    )  # fmt: skip
    return PairObjective(method, decoder, OfflinePairs(pixels(2 * IMAGES, 16, 16), 2, None, 0), params, SIZE)


CASES: dict[str, tuple[Callable[[str], Objective], str]] = {
    **{kind: (plain, kind) for kind in TRAINED},
    **{f"simclr with {name}": (of_timm, name) for name in ("test_efficientnet", "test_mambaout")},
    "adapted": (lambda _: adapted(IMAGES), ""),
    **{f"pairs of {kind}": (pairs, kind) for kind in METHODS},
}


class DoubleViews(Augment):
    """Views in float64, so that the processes' rounding can be told from an error."""

    def __call__(self, images: Tensor, index: Tensor, epoch: int, view: int) -> Tensor:
        return super().__call__(images, index, epoch, view).double()


def two_steps(case: str, world: World) -> dict[str, Tensor]:
    """Weights, buffers and losses after two steps."""
    build, kind = CASES[case]
    base = load(Path(__file__).parents[2] / "params.yaml").base
    base = base.model_copy(update={"batch_size": BATCH, "precision": "fp32", "sync_batch_norm": True})
    trained = build(kind).double()
    schedule = plan(6, IMAGES, BATCH, trained.passes)
    feed = Feed(pixels(IMAGES, SIZE, SIZE), schedule, 0, trained.fetch, world.rank, world.size, 1)
    step = TrainingStep(trained, base, SIZE, 0, BATCH, world)
    step.augment = DoubleViews(base.views, SIZE, 0)
    losses = [world.mean(step(feed(number)).losses["loss"]) for number in range(2)]
    return {**trained.state_dict(), "losses": torch.stack(losses)}


if __name__ == "__main__":
    processes = World(CPU)
    results = {case: two_steps(case, processes) for case in CASES}
    if processes.rank == processes.size - 1:  # not the first: every process must hold the same
        torch.save(results, sys.argv[1])
