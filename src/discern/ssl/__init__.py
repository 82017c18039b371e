"""Self-supervised methods: one file each, found by the `kind` of their parameters."""

from discern.ssl import moco, simclr  # imported for their registration
from discern.ssl.base import Contrast, ContrastiveMethod, build_method, methods, register

__all__ = ["Contrast", "ContrastiveMethod", "build_method", "methods", "moco", "register", "simclr"]
