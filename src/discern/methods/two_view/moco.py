"""MoCo v2: InfoNCE against a queue of keys from a momentum encoder (Chen et al. 2020, arXiv 2003.04297)."""

from discern.methods.build import Setup
from discern.methods.parts.queue import QueueContrast
from discern.params.two_view import MoCo


def build(params: MoCo, setup: Setup) -> QueueContrast:
    """At chance no key is nearer than another: ln(K + 1)."""
    return QueueContrast(params, setup.encoder, setup.images)
