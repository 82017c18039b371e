"""Reading params.yaml, with errors that name the file, the key, the value and what is allowed."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from discern.errors import ParamsError
from discern.params.pipeline import Params


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check a parameter file.

    Args:
        path: the file; YAML 1.2 as DVC reads it.

    Raises:
        ParamsError: the file is missing, is not YAML, or a key is unknown, missing or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: no such file; run from the project's root") from error
    return load_text(text, name=str(path))


def load_text(text: str, name: str = "params.yaml") -> Params:
    """Check the text of a parameter file; `name` stands in the errors."""
    try:
        # The reader of DVC itself (YAML 1.2): PyYAML would read 1e-3 as a string and `no` as False.
        raw: Any = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ParamsError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ParamsError(f"{name}: expected a mapping of stages to their parameters")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise ParamsError("\n".join(_explain(name, raw, problem) for problem in error.errors())) from error


def json_schema() -> str:
    """The JSON schema of params.yaml, for editors."""
    return json.dumps(Params.model_json_schema(by_alias=True), indent=2) + "\n"


def _explain(name: str, raw: Any, problem: Any) -> str:
    key, value = _locate(raw, problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{name}: {key} is missing; every key must be written (presets/ and README show them)"
    if problem["type"] == "extra_forbidden":
        return f"{name}: {key} is not a parameter; is it misspelt, or of another kind?"
    if not key:
        return f"{name}: {message}"
    return f"{name}: {key} = {json.dumps(value, default=str)}: {message[0].lower()}{message[1:]}"


def _locate(raw: Any, loc: tuple[int | str, ...]) -> tuple[str, Any]:
    """The dotted key as it stands in the file (pydantic adds union tags to the path), and its value."""
    keys: list[str] = []
    value = raw
    for part in loc:
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if in_list or (isinstance(value, dict) and part in value):
            value = value[part]
        elif isinstance(value, dict) and value.get("kind") == part:
            continue  # the tag of a discriminated union
        else:
            value = None
        keys.append(str(part))
    return ".".join(keys), value
