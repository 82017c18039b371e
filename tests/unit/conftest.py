"""What several files of unit tests start from."""

from pathlib import Path

import pytest

import discern
from discern.embedding.photos import PhotoEncoder
from tests.photos import save


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PhotoEncoder:
    """A small encoder, and a folder that is no project to work in."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("DISCERN_TRACKING_URI", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return discern.load(save(tmp_path / "encoder"))
