"""What several files of unit tests start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import discern
from discern.embedding.photos import PhotoEncoder
from discern.settings import settings
from tests.photos import save


@pytest.fixture(autouse=True)
def bfloat16_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What bf16 comes to is tested on every processor, if only emulated; the tests' networks are small enough."""
    monkeypatch.setenv("DISCERN_EMULATE_BF16", "true")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PhotoEncoder:
    """A small encoder, and a folder that is no project to work in."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for name in ("DISCERN_TRACKING_URI", "MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return discern.load(save(tmp_path / "encoder"))
