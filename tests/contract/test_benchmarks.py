"""Published figures are those of the committed measurements."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import arms, scaling, throughput

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "arms": arms.table, "throughput": throughput.table, "scaling": scaling.table
}  # fmt: skip
DOCS = {"arms": "arms.md", "throughput": "training.md", "scaling": "training.md"}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_tables_are_made_from_the_figures_beside_them_and_stand_in_the_docs(path: Path) -> None:
    kind = path.stem.partition("-")[0]
    text = TABLES[kind](json.loads(path.read_text(encoding="utf-8")))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == text
    docs = (ROOT / "docs" / DOCS[kind]).read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) > 3
    assert [row for row in rows if row not in docs] == []


def test_there_are_results() -> None:
    assert {"throughput", "scaling"} <= {path.stem.partition("-")[0] for path in RESULTS} <= set(TABLES)
