"""What all tests share: threads, telemetry, a process left as it was found, and small parameters."""

import os
import sys

# Before torch is imported: tests that start processes would otherwise fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from ruamel.yaml import YAML

from discern.params.load import load
from discern.params.pipeline import Params
from discern.settings import silence_telemetry

silence_telemetry()

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def same_process() -> Iterator[None]:
    """No test finds the environment or the MLflow addresses of another that ran in its process before."""
    with patch.dict(os.environ):
        yield
        mlflow: Any = sys.modules.get("mlflow")
        if mlflow is not None:
            mlflow.set_tracking_uri(None)
            mlflow.set_registry_uri(None)


@pytest.fixture
def raw_params() -> dict[str, Any]:
    """params.yaml of the project as plain data, to be changed and checked."""
    raw: dict[str, Any] = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return raw


@pytest.fixture
def params() -> Params:
    """params.yaml of the project."""
    return load(ROOT / "params.yaml")
