"""Modules at the edges are small and quick to import."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EDGES = {"prefect", "mlflow", "dvc", "great_expectations"}


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_discern_and_its_command_line_import_nothing_heavy() -> None:
    loaded = loaded_after("import discern, discern.params, discern.settings, discern.cli")
    assert "pydantic" in loaded
    assert not loaded & (EDGES | {"torch", "pandas", "numpy", "matplotlib"})


@pytest.mark.parametrize(
    "package",
    ["training.loop", "training.objective", "synthesis.criteria.scoring", "images.views", "models.weights"],
)
def test_training_core_needs_none_of_the_pipelines_tools(package: str) -> None:
    assert not loaded_after(f"import discern.{package}") & (EDGES | {"pandas", "lightning_fabric"})


def test_only_flows_import_prefect_and_only_the_stores_import_mlflow() -> None:
    # The record of runs, the registry and its reader, and the fresh process that tries a registered model.
    stores = {"tracking/mlflow_store.py", "registry/store.py", "registry/fetch.py", "registry/trial.py"}
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "import prefect" not in text
        assert "from prefect" not in text
        if path.relative_to(ROOT / "src" / "discern").as_posix() not in stores:
            assert "import mlflow" not in text, path
