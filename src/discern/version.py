"""The version of this package, for whatever is made with it."""

__version__ = "0.1.0"
