"""The model card: what a version is, what it was made from, how good it is and what it must not be used for."""

import json
from typing import Any

from discern.params.pipeline import Params
from discern.registry.evidence import Evidence
from discern.report.described import methods
from discern.report.reproduction import duration
from discern.report.summary import LABELLED, OTHER_PROTOCOLS, Measure
from discern.report.table import number, span
from discern.tracking import run_record
from discern.workspace import Workspace


def card(params: Params, workspace: Workspace, evidence: Evidence) -> str:
    """The card as Markdown, every figure read from the run."""
    source = _json(workspace.raw / "source.json")
    counts = evidence.figures.get("images")
    images = counts if isinstance(counts, dict) else {}
    about = next(method.about for method in methods(params, workspace) if method.name == evidence.method)
    encoder = params.base.encoder.model_dump()
    sizes = ", ".join(f"{value:,} {name}" for name, value in images.items())
    return "\n".join(
        [
            f"# {evidence.method}, seed {evidence.seed}",
            "",
            f"Turns a photograph into a feature vector that tells look-alikes apart. The method: {about}.",
            "",
            "## Data",
            "",
            f"- {source.get('name', params.dataset.kind)}: {sizes}",
            f"- licence: {source.get('licence', 'unknown')}",
            f"- splits: {', '.join(f'{name} `{digest}`' for name, digest in evidence.splits.items())}",
            "",
            "## Encoder",
            "",
            f"- {encoder['kind']}: {', '.join(f'{k} {v}' for k, v in encoder.items() if k != 'kind')}",
            f"- images of {params.pack.image_size} px, made square by `{params.pack.resize}`",
            f"- {params.pretrain_decoder.passes + params.train_encoder.passes} encoder passes per training image",
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
            *_cost(workspace, evidence),
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
            "- `params.yaml` holds every parameter, `evaluation/` the outcome of every test image,"
            " `checksums.json` the SHA-256 of every file",
            "",
        ]
    )


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


def _cost(workspace: Workspace, evidence: Evidence) -> list[str]:
    """Time of the stages that made the encoder; energy only where somebody measures it."""
    key = f"@{evidence.seed}" if evidence.method == "discern" else f"@{evidence.method}-{evidence.seed}"
    made = [
        record
        for record in run_record.load_all(workspace)
        if record.stage.endswith(key) and record.stage.startswith(("pretrain", "score", "synth", "train"))
    ]
    lines = [f"- {record.stage}: {duration(record.seconds)} on {record.device}" for record in made]
    return [*lines, "- energy: not measured"]


def _json(path: Any) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
