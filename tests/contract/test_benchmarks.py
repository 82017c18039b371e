"""Published figures are those of the committed measurements."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import adaptation, embedding, faults, methods, scaling, throughput

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "adaptation": adaptation.table,
    "embedding": embedding.table,
    "faults": faults.table,
    "methods": methods.table,
    "scaling": scaling.table,
    "throughput": throughput.table,
}
DOCS = {
    "adaptation": "evidence.md",
    "embedding": "python.md",
    "faults": "operations.md",
    "methods": "methods.md",
    "scaling": "training.md",
    "throughput": "training.md",
}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_tables_are_made_from_the_figures_beside_them_and_stand_in_the_docs(path: Path) -> None:
    kind = path.stem.partition("-")[0]
    text = TABLES[kind](json.loads(path.read_text(encoding="utf-8")))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == text
    docs = (ROOT / "docs" / DOCS[kind]).read_text(encoding="utf-8")
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    # Of all methods the docs show the main table and name the file with the others.
    shown = tables[:1] if kind == "methods" else tables
    rows = [row for table in shown for row in table]
    assert len(rows) > 3
    assert [row for row in rows if row not in docs] == []
    assert kind != "methods" or path.with_suffix(".md").name in docs


def test_there_are_results() -> None:
    assert {path.stem.partition("-")[0] for path in RESULTS} == set(TABLES)
