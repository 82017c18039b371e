"""L_C alone: what a loss between two views trains by itself."""

from torch import Tensor

from discern.images.views import Augment
from discern.methods.parts.joint_embedding import JointEmbedding
from discern.training.objective import Batch, Objective, Terms


class ContrastiveObjective(Objective):
    """L_C of two views of every image.

    Args:
        method: L_C.
    """

    def __init__(self, method: JointEmbedding) -> None:
        super().__init__()
        self.method, self.encoder = method, method.encoder
        self.passes, self.rate = method.passes, method.rate

    def forward(self, batch: Batch, augment: Augment) -> Terms:
        """Two views."""
        contrast = self.method(*(self.view(batch, augment, number) for number in (0, 1)))
        return Terms(contrast.loss, {"contrastive": contrast.loss}, contrast.embedding)

    def view(self, batch: Batch, augment: Augment, number: int) -> Tensor:
        """The first or the second view (N, 3, size, size) of L_C, number 0 or 1."""
        return augment(batch.images, batch.index, batch.epoch, number)

    def chance(self, batch_size: int) -> float:
        """Chance level of L_C."""
        return self.method.chance(batch_size)

    def after_step(self) -> None:
        """Momentum encoders and queues."""
        self.method.after_step()
