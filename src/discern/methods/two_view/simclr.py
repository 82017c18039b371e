"""SimCLR: NT-Xent between two views of every image (Chen et al. 2020, arXiv 2002.05709)."""

from discern.methods.build import Setup
from discern.methods.parts.two_sided import TwoSided, nt_xent
from discern.params.two_view import SimCLR


def build(params: SimCLR, setup: Setup) -> TwoSided:
    """At chance every other embedding is as near as the right one: ln(2 N - 1)."""
    return nt_xent(params, setup.encoder)
