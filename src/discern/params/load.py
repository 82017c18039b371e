"""Reading params.yaml and methods/, with errors that name the file, the key, the value and what is allowed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from discern.errors import ParamsError
from discern.params.methods import METHOD, Method
from discern.params.pipeline import Params

METHODS = Path("methods")  # beside params.yaml


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check a parameter file, and the methods beside it that it names.

    Args:
        path: the file; YAML 1.2 as DVC reads it.

    Raises:
        ParamsError: a file is missing, is not YAML, or a key is unknown, missing or out of range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ParamsError(f"{path}: no such file; run from the project's root") from error
    return load_text(text, name=str(path), methods=path.parent / METHODS)


def load_text(
    text: str,
    name: str = "params.yaml",
    methods: Path = METHODS,
    changed: Mapping[str, str] | None = None,
) -> Params:
    """Check the text of a parameter file.

    Args:
        text: YAML.
        name: stands in the errors.
        methods: folder with the methods that the file names.
        changed: texts of methods that stand for their files, by the method's name; checked whether named or not.

    Raises:
        ParamsError: as `load`.
    """
    raw = read_mapping(text, name)
    if "described" in raw:
        raise ParamsError(f"{name}: described is not a parameter; a method is described in {METHODS}/NAME.yaml")
    described, problems = _described(methods, raw, changed or {})
    raw["described"] = None if problems else described
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        told = [one for one in error.errors() if not (problems and one["loc"] == ("described",))]
        raise ParamsError("\n".join([*problems, *(_explain(name, raw, one) for one in told)])) from error


def read_methods(folder: Path) -> tuple[dict[str, Method], list[str]]:
    """Every method that a project describes, trained or not: the good ones by name, and the others' mistakes."""
    found: dict[str, Method] = {}
    problems: list[str] = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            raw = _method(folder, file.stem)
            found[file.stem] = METHOD.validate_python(raw)
        except ParamsError as error:
            problems.append(str(error))
        except ValidationError as error:
            problems += [_explain(str(file), raw, one) for one in error.errors()]
    return found, problems


def read_mapping(text: str, name: str) -> dict[str, Any]:
    """The mapping that a YAML text holds.

    Raises:
        ParamsError: it is not YAML, or no mapping.
    """
    try:
        # The reader of DVC itself (YAML 1.2): PyYAML would read 1e-3 as a string and `no` as False.
        raw = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        raise ParamsError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ParamsError(f"{name}: expected a mapping of names to parameters")
    return raw


def named_methods(raw: Mapping[str, Any]) -> Iterator[str]:
    """Methods that unchecked parameters name, some perhaps twice: those compared, and the loss of the decoder.

    Whatever is no name is passed over: refusing it is for the model, and a revision may be older than the key.
    """
    for section, key in (("methods", "compared"), ("pretrain_decoder", "loss")):
        part = raw.get(section)
        value = part.get(key) if isinstance(part, dict) else None
        yield from (name for name in (value if isinstance(value, list) else [value]) if isinstance(name, str))


def json_schema(of_method: bool = False) -> str:
    """The JSON schema of params.yaml, or of a method's file, for editors."""
    schema = METHOD.json_schema() if of_method else Params.model_json_schema(by_alias=True)
    if not of_method:
        schema["properties"].pop("described")
        schema["required"].remove("described")
    return json.dumps(schema, indent=2) + "\n"


def _described(folder: Path, raw: dict[str, Any], changed: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The methods that the parameters name and those that were changed, and what is wrong with their files."""
    found, problems = {}, []
    for name in dict.fromkeys([*named_methods(raw), *changed]):
        try:
            if name in changed:
                found[name] = read_mapping(changed[name], f"{folder / name}.yaml")
            else:
                found[name] = _method(folder, name)
        except ParamsError as error:
            problems.append(str(error))
    return found, problems


def _method(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"{name}.yaml"
    try:
        return read_mapping(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise ParamsError(f"{path}: no such file, so there is no method {name}; there are {known}") from error


def _explain(name: str, raw: Any, problem: Any) -> str:
    key, value = _locate(raw, problem["loc"])
    message = str(problem["msg"]).removeprefix("Value error, ")
    if key.startswith("described."):  # it stands in a file of its own
        _, method, key = f"{key}.".split(".", 2)
        name, key = str(Path(name).parent / METHODS / f"{method}.yaml"), key.rstrip(".")
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
