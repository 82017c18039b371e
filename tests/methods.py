"""Small parameters of every registered method, for the tests that run over all of them."""

from discern.params.training import ContrastiveLoss, MoCo, SimCLR

METHODS: dict[str, ContrastiveLoss] = {
    "simclr": SimCLR(kind="simclr", temperature=0.5, hidden=32, dim=16),
    "moco": MoCo(kind="moco", temperature=0.2, hidden=32, dim=16, queue=24, momentum=0.9, allow_long_queue=False),
}
