"""Changing params.yaml as `dvc exp run -S` does, with comments and layout kept."""

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from discern.errors import ParamsError
from discern.params.load import load_text


def apply_overrides(path: Path, overrides: list[str]) -> None:
    """Write `key=value` overrides into a parameter file.

    Args:
        path: params.yaml; unchanged when an override is wrong.
        overrides: e.g. `train_encoder.pair_weight=0.5`, `methods.seeds=[0, 1]`,
            `dataset={kind: folder, path: photos, licence: mine}`; values are YAML.

    Raises:
        ParamsError: an override is no assignment, names no parameter, or has a value that is not allowed.
    """
    if not overrides:
        return
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000  # long flow mappings stay on their line
    tree = yaml.load(path.read_text(encoding="utf-8"))
    for override in overrides:
        _assign(tree, override)
    text = io.StringIO()
    yaml.dump(tree, text)
    load_text(text.getvalue(), name=str(path))
    path.write_text(text.getvalue(), encoding="utf-8")


def _assign(tree: Any, override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise ParamsError(f"override {override!r}: write key=value, e.g. train_encoder.pair_weight=0.5")
    *parents, last = key.strip().split(".")
    node = tree
    for name in parents:
        node = node.get(name) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise ParamsError(f"override {override!r}: {key} is not in params.yaml")
    try:
        node[last] = YAML().load(value)  # keeps the way a list or mapping is written
    except YAMLError as error:
        raise ParamsError(f"override {override!r}: the value is not valid YAML") from error
