"""The order of imports: no circle anywhere, and the contract of pyproject.toml holds."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
FILES = {".".join(p.relative_to(SOURCE).with_suffix("").parts): p for p in sorted(SOURCE.rglob("*.py"))}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}


def imported(path: Path) -> Iterator[str]:
    """Modules of this project that a file imports, within functions as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inner if name in MODULES]
            yield from found or [node.module]


def test_there_is_no_circle_of_imports() -> None:
    graph = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
    assert sum(map(len, graph.values())) > 500
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_a_circle_would_be_seen() -> None:
    graph = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
    graph["discern.params.model"].add("discern.params.two_view")
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


def test_the_contract_holds() -> None:
    done = subprocess.run(["lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "3 kept, 0 broken" in done.stdout


@pytest.mark.parametrize("package", ["discern", "discern.stages", "discern.params.load", "discern.run.guardian"])
def test_importing_starts_nothing(package: str, tmp_path: Path) -> None:
    """Neither threads nor environment nor another interpreter; and from a folder with a src/discern of its own."""
    (tmp_path / "src" / "discern").mkdir(parents=True)
    code = f"import os, sys, threading\nbefore = dict(os.environ)\nprint('once')\nimport {package}\n"
    code += "assert dict(os.environ) == before\nassert threading.active_count() == 1\n"
    code += "assert 'torch' not in sys.modules\n"
    (tmp_path / "script.py").write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "once\n"
