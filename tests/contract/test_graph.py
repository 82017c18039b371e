"""params.yaml, methods/, their models, dvc.yaml and the code agree in both directions."""

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from discern.dvcfiles.read import mapping, stages, within
from discern.nested import flat
from discern.params.load import load
from discern.params.methods import METHOD, kinds
from discern.params.model import ParamModel
from discern.params.pipeline import Params
from discern.params.two_view import TwoView

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
STAGES: dict[str, dict[str, Any]] = stages(ROOT / "dvc.yaml")
METHODS = sorted(path.stem for path in (ROOT / "methods").glob("*.yaml"))
RAW = mapping((ROOT / "params.yaml").read_text(encoding="utf-8"))
EVERY = {**RAW, "methods": {**RAW["methods"], "compared": METHODS, "controls": list(RAW["train_control"])}}

# Modules that carry values, files and records about, and decide no result: a change in them is no reason to train
# again. The parameters' values are tracked through `params:`.
PLUMBING = (
    "discern.errors", "discern.version", "discern.machine", "discern.nested", "discern.settings",
    "discern.workspace",
    "discern.params", "discern.tracking", "discern.dvcfiles", "discern.data.progress", "discern.training.progress",
    "discern.run.__init__", "discern.run.__main__", "discern.run.context", "discern.run.guardian",
    "discern.run.runner", "discern.run.signals",
)  # fmt: skip


def module_file(module: str) -> Path | None:
    path = SOURCE.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def imports(path: Path) -> Iterator[Path]:
    """Files of this project that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith("discern.") and (file := module_file(name)):
                yield file


def is_plumbing(path: Path) -> bool:
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    return any(name == p or name.startswith(f"{p}.") for p in PLUMBING)


def closure(*paths: Path) -> set[str]:
    """The modules and every file of this project that they need, plumbing left out, as DVC names them."""
    found, waiting = set(paths), list(paths)
    while waiting:
        for file in imports(waiting.pop()):
            if file not in found and not is_plumbing(file):
                found.add(file)
                waiting.append(file)
    code = {file for file in found if file.read_text(encoding="utf-8").strip().count("\n") > 0}
    return {file.relative_to(ROOT).as_posix() for file in code}


def stage_module(stage: dict[str, Any]) -> Path:
    match = re.match(r"python -m discern\.run (\w+)", stage["cmd"])
    assert match
    file = module_file(f"discern.stages.{match[1]}")
    assert file
    return file


def method_module(name: str) -> Path:
    """The module that builds a method: torch-free descriptions name it."""
    description = METHOD.validate_python(mapping((ROOT / "methods" / f"{name}.yaml").read_text(encoding="utf-8")))
    file = module_file(description.built_by)
    assert file
    return file


def followed(dep: str) -> str:
    """A dep as the file or folder that it is: methods/NAME leads to code."""
    return (ROOT / dep).resolve().relative_to(ROOT).as_posix()


def items(stage: dict[str, Any], params: dict[str, Any]) -> list[dict[str, str]]:
    """Every place in a stage's matrix, with the parameters that stand beside it in `${…}`."""
    values = flat(params)
    axes = {
        axis: choices if isinstance(choices, list) else values[choices[2:-1]]
        for axis, choices in stage.get("matrix", {}).items()
    }
    return [
        {**values, **{f"item.{axis}": str(choice) for axis, choice in zip(axes, place, strict=True)}}
        for place in itertools.product(*axes.values())
    ]


def filled(text: str, item: dict[str, str]) -> str:
    return re.sub(r"\$\{([\w.]+)\}", lambda match: str(item[match[1]]), text)


@pytest.mark.parametrize("name", STAGES)
def test_every_module_a_stage_imports_is_among_its_deps_and_no_other(name: str) -> None:
    stage = STAGES[name]
    two_view = [method for method in METHODS if method_kind(method) in kinds(TwoView)]
    used: set[str] = set()
    for loss, place in itertools.product(two_view, items(stage, EVERY)):
        item = {**place, "pretrain_decoder.loss": loss}
        deps = [followed(filled(dep, item)) for dep in stage["deps"] if dep.startswith(("src/", "methods/"))]
        needed = closure(stage_module(stage))
        if any("${pretrain_decoder.loss}" in dep for dep in stage["deps"]):
            needed |= closure(method_module(loss))
        # A method may leave a network of its own: evaluating it needs the code that makes it.
        if "methods/${item.method}" in stage["deps"] and name != "evaluate_method":
            needed |= closure(method_module(item["item.method"]))
        used |= needed
        assert [file for file in sorted(needed) if not any(within(file, dep) for dep in deps)] == []
    code = [dep for dep in stage["deps"] if dep.startswith("src/") and not dep.endswith("templates")]
    assert [dep for dep in code if not any(within(file, dep) for file in used)] == []


def method_kind(name: str) -> str:
    return str(mapping((ROOT / "methods" / f"{name}.yaml").read_text(encoding="utf-8"))["kind"])


def stale(file: str, raw: dict[str, Any] = RAW) -> set[str]:
    """The stages that an edit in one file touches directly; default those of the demo."""
    return {
        f"{name}@{'-'.join(item[f'item.{axis}'] for axis in stage['matrix'])}" if "matrix" in stage else name
        for name, stage in STAGES.items()
        for item in items(stage, raw)
        if any(within(file, followed(filled(dep, item))) for dep in stage["deps"] if not dep.startswith("data/"))
    }


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"simclr", "random_init"}))
def test_an_edit_of_a_method_that_nobody_trains_touches_nothing(method: str) -> None:
    assert stale(method_module(method).relative_to(ROOT).as_posix()) <= (
        {"train_method@random_init-0"} if method_module(method) == method_module("random_init") else set()
    )


def test_an_edit_touches_what_uses_it_and_nothing_else() -> None:
    perturbation = stale("src/discern/synthesis/pairs/perturbation.py")
    assert perturbation == {"synthesize_pairs@0", "train_encoder@0"}
    assert stale("src/discern/report/page.py") == {"report"}
    assert stale("src/discern/methods/floors/random_init.py") == {
        "train_method@random_init-0", "evaluate_method@random_init-0",
    }  # fmt: skip
    assert stale("src/discern/synthesis/criteria/scoring.py") == {"score_features@0"}
    assert {"pretrain_decoder@0", "train_method@simclr-0"} <= stale("src/discern/methods/two_view/simclr.py")
    assert "pretrain_decoder@0" in stale("src/discern/training/loop.py")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_stands_beside_its_code(name: str) -> None:
    link = ROOT / "methods" / name
    assert link.is_symlink()
    assert not link.readlink().is_absolute()
    assert method_module(name).is_relative_to(link.resolve())


def test_every_kind_has_a_method() -> None:
    assert {method_kind(name) for name in METHODS} == set(kinds())


def leaves(raw: Any) -> set[str]:
    return set(flat(raw))


def test_every_leaf_of_params_yaml_is_in_the_model_and_the_reverse() -> None:
    assert leaves(load(ROOT / "params.yaml").model_dump(mode="json", by_alias=True)) == leaves(RAW)


@pytest.mark.parametrize("name", METHODS)
def test_every_leaf_of_a_method_is_in_its_model(name: str) -> None:
    raw = mapping((ROOT / "methods" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert leaves(METHOD.validate_python(raw).model_dump(mode="json")) == leaves(raw)


def test_no_parameter_has_a_hidden_default() -> None:
    def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
        yield model
        for sub in model.__subclasses__():
            yield from models(sub)

    hidden = [
        f"{model.__name__}.{name}"
        for model in models(ParamModel)
        for name, field in model.model_fields.items()
        if not field.is_required()
    ]
    assert not hidden


@pytest.mark.parametrize("name", STAGES)
def test_params_of_dvc_yaml_exist(name: str) -> None:
    for item in items(STAGES[name], EVERY):
        for key in STAGES[name]["params"]:
            if isinstance(key, dict):
                assert all((ROOT / filled(file, item)).is_file() for file in key)
                continue
            value: Any = RAW
            for part in filled(key, item).split("."):
                assert part in value, f"{name}: {key}"
                value = value[part]


ALIASES = {"validation": "validate", "loss": "pretrain_decoder", "described": "methods"}


def read_params(paths: set[str]) -> set[str]:
    """Top-level parameter keys that code reads: `ctx.params.KEY`."""
    known = {field.alias or name for name, field in Params.model_fields.items()}
    return {
        ALIASES.get(node.attr, node.attr)
        for path in paths
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) == "ctx.params"
        and ALIASES.get(node.attr, node.attr) in known
    }


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_reads_no_parameter_it_does_not_declare(name: str) -> None:
    declared = {"methods" if isinstance(key, dict) else key.split(".")[0] for key in STAGES[name]["params"]}
    assert read_params(closure(stage_module(STAGES[name]))) - declared == set()


def test_every_stage_leaves_a_run_record() -> None:
    for name, stage in STAGES.items():
        key = "-".join("${item." + axis + "}" for axis in stage.get("matrix", {}))
        expected = f"reports/runs/{name}@{key}.json" if key else f"reports/runs/{name}.json"
        assert expected in stage["outs"], name
