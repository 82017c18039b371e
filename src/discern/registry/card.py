"""The model card: what a version is, what it was made from, how good it is and what it must not be used for."""

import json
from pathlib import Path
from typing import Any

from discern.models.making import Making, read_architecture, read_making
from discern.params.floors import Floor
from discern.params.methods import kinds
from discern.params.pipeline import CONTINUE, OURS, Params
from discern.registry.evidence import Evidence
from discern.report.described import about
from discern.report.reproduction import duration
from discern.report.summary import LABELLED, OTHER_PROTOCOLS, Measure
from discern.report.table import number, span
from discern.tracking import run_record
from discern.workspace import Workspace

BEFORE = ("pretrain_decoder", "score_features", "synthesize_pairs")  # stages that ours and its controls go on from


def card(params: Params, workspace: Workspace, evidence: Evidence, encoder: Path) -> str:
    """The card as Markdown, every figure read from the run.

    Args:
        params: of the workspace; for what holds for all methods, the data and the budget.
        workspace: where the data's origin and the records of the stages lie.
        evidence: what the evaluation found.
        encoder: the encoder's folder, which says what was trained.
    """
    source = _json(workspace.raw / "source.json")
    counts = evidence.figures.get("images")
    images = counts if isinstance(counts, dict) else {}
    making = read_making(encoder)
    sizes = ", ".join(f"{value:,} {name}" for name, value in images.items())
    return "\n".join(
        [
            f"# {evidence.method}, seed {evidence.seed}",
            "",
            "Turns a photograph into a feature vector that tells look-alikes apart."
            f" The method: {about(making.description, params, making.weights.name)}.",
            "",
            "## Data",
            "",
            f"- {source.get('name', params.dataset.kind)}: {sizes}",
            f"- licence: {source.get('licence', 'unknown')}",
            f"- splits: {', '.join(f'{name} `{digest}`' for name, digest in evidence.splits.items())}",
            "",
            "## Encoder",
            "",
            *_encoder(params, making, read_architecture(encoder, "encoder")),
            "",
            "## Figures on the test images",
            "",
            "| protocol | figure | 95 % interval |",
            "| --- | ---: | ---: |",
            *_figures(evidence),
            "",
            "Frozen features; intervals are a bootstrap over test images and do not cover the luck of training.",
            "",
            "## Cost",
            "",
            *_cost(workspace, evidence, making.description["kind"]),
            "",
            "## Limits",
            "",
            "- The figures hold for photographs like the test images; on others, evaluate before use.",
            "- A picture of none of the training classes still gets a class: look at `score` and `similarities`.",
            "- Nearest training images are named in every answer: serve it only to those who may know of them.",
            *(
                ["- The licence of the data is not stated; ask before you pass the model on."]
                if not source.get("licence")
                else []
            ),
            "",
            "## Origin",
            "",
            f"- commit `{evidence.commit or 'unknown'}`{', with uncommitted changes' if evidence.dirty else ''}",
            "- `params.yaml` and `methods/` hold every parameter, `evaluation/` the outcome of every test image,"
            " `checksums.json` the SHA-256 of every file",
            "",
        ]
    )


def _encoder(params: Params, making: Making, architecture: dict[str, Any]) -> list[str]:
    """What stands beside the weights, and what training cost where there was any."""
    budget = params.pretrain_decoder.passes + params.train_encoder.passes
    trained = making.description["kind"] not in kinds(Floor)
    return [
        f"- {_described(architecture['encoder'])}; {architecture['dim']} features",
        f"- images of {making.image_size} px, made square by `{making.resize}`",
        f"- Weights: {making.weights.described()}",
        *(["- its own training saw labels"] if making.labels != making.weights.labels else []),
        *([f"- {budget} encoder passes per training image"] if trained else []),
        f"- the method's parameters: {_described(making.description)}",
    ]


def _described(description: dict[str, Any]) -> str:
    """`KIND: key value, …`, with descriptions inside in brackets."""
    rest = ", ".join(
        f"{key} ({_described(value)})" if isinstance(value, dict) and "kind" in value else f"{key} {value}"
        for key, value in description.items()
        if key != "kind"
    )
    return f"{description['kind']}{rest and ': '}{rest}"


def _figures(evidence: Evidence) -> list[str]:
    rows = []
    for measure in (*LABELLED, *OTHER_PROTOCOLS):
        value = evidence.figure(measure.key)
        if value is not None:
            rows.append(
                f"| {measure.title} | {number(measure, value)}{_unit(measure)} | {_interval(evidence, measure)} |"
            )
    return rows or ["| no labels: nothing here says how good it is | – | – |"]


def _interval(evidence: Evidence, measure: Measure) -> str:
    low, high = (evidence.figure(f"{measure.key}_{end}") for end in ("low", "high"))
    return "–" if low is None or high is None else span(measure, (low, high))


def _unit(measure: Measure) -> str:
    return " %" if measure.percent else ""


def _cost(workspace: Workspace, evidence: Evidence, kind: str) -> list[str]:
    """Time of the stages that made the encoder; energy only where somebody measures it."""
    seed = evidence.seed
    before = {OURS: BEFORE, "control": BEFORE, CONTINUE: BEFORE[:1]}.get(kind, ())
    last = {OURS: f"train_encoder@{seed}", CONTINUE: f"train_continue@{seed}"}
    trained = last.get(kind, f"@{evidence.method}-{seed}")
    made = [
        record
        for record in run_record.load_all(workspace)
        if record.stage in {f"{stage}@{seed}" for stage in before}
        or (record.stage.startswith("train_") and record.stage.endswith(trained))
    ]
    lines = [f"- {record.stage}: {duration(record.seconds)} on {record.device}" for record in made]
    return [*lines, "- energy: not measured"]


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
