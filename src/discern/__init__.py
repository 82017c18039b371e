"""Self-supervised fine-grained visual recognition, with a record of how every number came about."""

__version__ = "0.1.0"
