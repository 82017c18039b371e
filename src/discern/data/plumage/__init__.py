"""The embedded data set: birds of invented species that differ only in small parts, drawn by code."""

from discern.data.plumage.drawing import Drawn, draw
from discern.data.plumage.files import write

__all__ = ["Drawn", "draw", "write"]
