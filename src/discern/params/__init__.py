"""The one definition of every parameter; `load` reads params.yaml against it."""

from discern.params.load import json_schema, load, load_text
from discern.params.pipeline import Params

__all__ = ["Params", "json_schema", "load", "load_text"]
