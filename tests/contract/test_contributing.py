"""The method that CONTRIBUTING.md adds, added as it says: a class, a file, a YAML and one entry in the tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract import test_graph as graph

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(?:python|yaml)\n(.*?)```", TEXT, flags=re.DOTALL)
GENERIC = "starts_near_chance or forward_gives_features or interrupted_and_resumed or contrast_is_one_direction"
CODE = "src/discern/methods/two_view/align_uniform.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "tests", "methods"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skipped, symlinks=True)
    for name in ("params.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def python(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.slow
def test_the_example_is_short_and_passes_what_every_method_must_pass(project: Path) -> None:
    description, code, yaml, entry = BLOCKS
    assert description.count("\n") + code.count("\n") < 60
    models = project / "src" / "discern" / "params" / "two_view.py"
    replaced(models, "TwoView = Annotated[\n    ", f"{description}\n\nTwoView = Annotated[\n    AlignUniform | ")
    (project / CODE).write_text(code, encoding="utf-8")
    (project / "methods" / "align_uniform.yaml").write_text(yaml, encoding="utf-8")
    (link,) = re.findall(r"ln -s (\S+)\s+(\S+)`", TEXT)
    (project / link[1]).symlink_to(link[0])
    assert (project / link[1]).resolve() == (project / CODE).resolve()
    marker = "SMALL: dict[str, dict[str, Any]] = {\n"
    replaced(project / "tests" / "methods.py", marker, marker + entry)

    replaced(project / "params.yaml", "compared: [", "compared: [align_uniform, ")
    checked = python(project, "-m", "discern", "check")
    assert "align_uniform" in checked.stdout, checked.stderr

    files = ["tests/unit/test_two_view.py", "tests/unit/test_training.py"]
    chosen = ["-p", "no:cacheprovider", "-k", f"align_uniform and ({GENERIC})"]
    ran = python(project, "-m", "pytest", *chosen, *files)
    assert ran.returncode == 0, ran.stdout
    assert "4 passed" in ran.stdout


@pytest.mark.parametrize("changed", [CODE, "src/discern/params/two_view.py", "methods/align_uniform.yaml"])
def test_adding_it_makes_no_other_method_stale(changed: str) -> None:
    assert graph.stale(changed, graph.EVERY) == set()


def test_the_shared_examples_are_there() -> None:
    named = re.findall(r"`(methods/(?:parts|pretext)/\w+\.py)`", TEXT)
    assert len(named) >= 2
    assert [name for name in named if not (ROOT / "src" / "discern" / name).is_file()] == []


def test_the_map_shows_every_room_in_the_order_of_the_contract() -> None:
    shown = re.findall(r"^\| (`.*?`) \|", TEXT, flags=re.MULTILINE)
    rooms = [room for cell in shown for room in re.findall(r"`(\w+)`", cell)]
    packages = {path.parent.name for path in (ROOT / "src" / "discern").glob("*/__init__.py")}
    assert packages | {"cli", "doctor"} == set(rooms)
    layers = re.search(r"^layers = \[\n(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    assert layers
    order = [name for name in re.findall(r"\w+", layers[1]) if name in rooms]
    assert order == rooms
