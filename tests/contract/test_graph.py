"""params.yaml, its models, dvc.yaml and the code agree in both directions."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from discern.params.pipeline import Params

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
STAGES: dict[str, dict[str, Any]] = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]

# Modules that carry values, files and records about, and decide no result: a change in them is no reason to train
# again. The parameters' values are tracked through `params:`.
PLUMBING = (
    "discern.errors", "discern.machine", "discern.settings", "discern.workspace", "discern.params",
    "discern.tracking",
    "discern.stages.__init__", "discern.run.context", "discern.run.runner", "discern.run.signals",
    "discern.training.progress", "discern.data.progress",
)  # fmt: skip


def module_file(module: str) -> Path | None:
    path = SOURCE.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def imports(path: Path) -> Iterator[Path]:
    """Files of this project that a module imports, anywhere in it but for its types only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        if "discern.methods.build" in names:  # which kind it builds, the parameters say
            yield from (SOURCE / "discern" / "methods").glob("*.py")
        for name in names:
            if name.startswith("discern.") and (file := module_file(name)):
                yield file


def is_plumbing(path: Path) -> bool:
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    return any(name == p or name.startswith(f"{p}.") for p in PLUMBING)


def closure(path: Path) -> set[Path]:
    """The module and every file of this project it needs, plumbing left out."""
    found, waiting = {path}, [path]
    while waiting:
        for file in imports(waiting.pop()):
            if file not in found and not is_plumbing(file):
                found.add(file)
                waiting.append(file)
    return {file for file in found if file.read_text(encoding="utf-8").strip().count("\n") > 0}


def stage_module(stage: dict[str, Any]) -> Path:
    match = re.match(r"python -m (discern\.stages\.\w+)", stage["cmd"])
    assert match
    file = module_file(match[1])
    assert file
    return file


@pytest.mark.parametrize("name", STAGES)
def test_every_module_a_stage_imports_is_among_its_deps_and_no_other(name: str) -> None:
    needed = closure(stage_module(STAGES[name]))
    deps = [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith("src/")]
    missing = [str(f.relative_to(ROOT)) for f in needed if not any(f.is_relative_to(dep) for dep in deps)]
    assert not missing
    code = [dep for dep in deps if dep.name != "templates"]
    unused = [str(dep.relative_to(ROOT)) for dep in code if not any(f.is_relative_to(dep) for f in needed)]
    assert not unused


def leaves(raw: Any, prefix: str = "") -> set[str]:
    if not isinstance(raw, dict):
        return {prefix}
    return set().union(*(leaves(value, f"{prefix}.{key}".lstrip(".")) for key, value in raw.items()), set())


def test_every_leaf_of_params_yaml_is_in_the_model_and_the_reverse(raw_params: dict[str, Any]) -> None:
    dumped = Params.model_validate(raw_params).model_dump(mode="json", by_alias=True)
    assert leaves(dumped) == leaves(raw_params)


def test_no_parameter_has_a_hidden_default() -> None:
    def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
        yield model
        for sub in model.__subclasses__():
            yield from models(sub)

    from discern.params.model import ParamModel

    hidden = [
        f"{model.__name__}.{name}"
        for model in models(ParamModel)
        for name, field in model.model_fields.items()
        if not field.is_required()
    ]
    assert not hidden


@pytest.mark.parametrize("name", STAGES)
def test_params_of_dvc_yaml_exist(name: str, raw_params: dict[str, Any]) -> None:
    matrix = STAGES[name].get("matrix", {})
    methods = matrix.get("method", ["-"])
    if isinstance(methods, str):
        methods = raw_params["methods"][methods.removeprefix("${methods.").removesuffix("}")]
    for method in methods:
        for key in STAGES[name]["params"]:
            value: Any = raw_params
            for part in key.replace("${item.method}", method).split("."):
                assert part in value, f"{name}: {key}"
                value = value[part]


ALIASES = {"validation": "validate"}


def read_params(path: Path) -> set[str]:
    """Top-level parameter keys that a module's code reads: `ctx.params.KEY`, or `params.KEY` of a Params."""
    known = {field.alias or name for name, field in Params.model_fields.items()}
    return {
        ALIASES.get(node.attr, node.attr)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) in {"ctx.params", "self.params.params"}
        and ALIASES.get(node.attr, node.attr) in known
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_no_parameter_it_does_not_declare(name: str) -> None:
    module = stage_module(STAGES[name])
    declared = {key.split(".")[0] for key in STAGES[name]["params"]}
    assert read_params(module) - declared == set()


def test_every_stage_leaves_a_run_record() -> None:
    for name, stage in STAGES.items():
        key = "-".join("${item." + axis + "}" for axis in stage.get("matrix", {}))
        expected = f"reports/runs/{name}@{key}.json" if key else f"reports/runs/{name}.json"
        assert expected in stage["outs"], name
