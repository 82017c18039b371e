"""The method that CONTRIBUTING.md adds, added as it says: one new file and one entry in the tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
GENERIC = "starts_near_chance or forward_gives_features or interrupted_and_resumed or contrast_is_one_direction"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skipped)
    for name in ("params.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def python(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_example_is_short_and_passes_what_every_method_must_pass(project: Path) -> None:
    method, entry = BLOCKS
    assert method.count("\n") < 80
    (project / "src" / "discern" / "methods" / "align_uniform.py").write_text(method, encoding="utf-8")
    tests = project / "tests" / "methods.py"
    marker = "SMALL: dict[str, dict[str, Any]] = {\n"
    text = tests.read_text(encoding="utf-8")
    assert marker in text
    tests.write_text(text.replace(marker, marker + entry), encoding="utf-8")

    params = (project / "params.yaml").read_text(encoding="utf-8")
    described = "train_baseline:\n  mine: {kind: align_uniform, rate: 1.0, uniformity: 1.0, hidden: 32, dim: 16}\n"
    params = re.sub(r"baselines: \[", "baselines: [mine, ", params.replace("train_baseline:\n", described))
    (project / "params.yaml").write_text(params, encoding="utf-8")
    checked = python(project, "-m", "discern", "check")
    assert "mine" in checked.stdout, checked.stderr

    files = ["tests/unit/test_ssl.py", "tests/unit/test_training.py"]
    chosen = ["-p", "no:cacheprovider", "-k", f"align_uniform and ({GENERIC})"]
    ran = python(project, "-m", "pytest", *chosen, *files)
    assert ran.returncode == 0, ran.stdout
    assert "4 passed" in ran.stdout


def test_the_shared_example_of_an_objective_is_there() -> None:
    for name in re.findall(r"`((?:ssl|pretext)/\w+\.py)`", TEXT):
        assert (ROOT / "src" / "discern" / name).is_file()
