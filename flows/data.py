"""The nightly look at the data: fetch and check it, without training anything."""

import json
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.clone import own_clone, work_in
from flows.pipeline import pipeline

SHOWN = 20  # quarantined files that the page names


@flow(name="data-check", validate_parameters=True)
def data_check(reread: bool = True, revision: str = "") -> None:
    """Run the data gate and show what it found; the flow fails where the gate does.

    Args:
        reread: read the source again, even where nothing seems changed.
        revision: commit, tag or branch, in a clone of its own; empty: this folder as it lies here.
    """
    if revision:
        work_in(own_clone(Path.cwd(), revision))
    pipeline(targets=["download"], force=reread)
    pipeline(targets=["validate"])
    create_markdown_artifact(findings(Path.cwd()), key="data", description="What the data gate found")


def findings(root: Path) -> str:
    """Counts and quarantined files as Markdown."""
    counts = json.loads((root / "metrics" / "data.json").read_text(encoding="utf-8"))
    lines = ["| what | count |", "| --- | ---: |", *(f"| {name} | {value:,} |" for name, value in counts.items())]
    quarantined = (root / "data" / "validated" / "quarantine.csv").read_text(encoding="utf-8").splitlines()[1:]
    if quarantined:
        more = f"\n\n… and {len(quarantined) - SHOWN} more" if len(quarantined) > SHOWN else ""
        lines += ["", "```", *quarantined[:SHOWN], "```" + more]
    return "\n".join(lines) + "\n"
