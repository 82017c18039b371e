"""SimCLR whose views are also corrupted (arXiv 2107.13973): one factor each over one recipe of views."""

from typing import Literal

from torch import Tensor

from discern.images.views import Augment
from discern.methods.build import Setup
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.methods.parts.two_sided import nt_xent
from discern.methods.pretext.corrupted.corruptions import Corruption, build_corruption
from discern.params.pretext import CorruptedSimCLR
from discern.training.objective import Batch


class CorruptedObjective(ContrastiveObjective):
    """L_C of views that the ordinary augmentation makes and a corruption then damages.

    Args:
        method: L_C.
        corruption: what happens to a view, different for each image, epoch and view.
        sides: one: to the second view only; two: to both.
        seed: of the corruption's random numbers, which are not the augmentation's.
    """

    def __init__(
        self, method: JointEmbedding, corruption: Corruption, sides: Literal["one", "two"], seed: int
    ) -> None:
        super().__init__(method)
        self.corruption, self.seed = corruption, seed
        self.corrupted = {"one": (1,), "two": (0, 1)}[sides]

    def view(self, batch: Batch, augment: Augment, number: int) -> Tensor:
        """A view (N, 3, size, size), corrupted where it is to be."""
        x = super().view(batch, augment, number)
        if number not in self.corrupted:
            return x
        return self.corruption(x, batch.index, self.seed, batch.epoch, number)


def build(params: CorruptedSimCLR, setup: Setup) -> CorruptedObjective:
    """SimCLR in all but its views: the same head, loss and chance level."""
    corruption = build_corruption(**params.corruption.model_dump())
    return CorruptedObjective(nt_xent(params, setup.encoder), corruption, params.sides, setup.seed)
