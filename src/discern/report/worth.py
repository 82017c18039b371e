"""Is training on your photographs worth it? The best trained encoder against the frozen one it started from."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.evaluation.bootstrap import paired_over_seeds
from discern.params.evaluation import Bootstrap
from discern.params.floors import Frozen
from discern.params.model import FloorMethod, LabelledMethod
from discern.params.pipeline import CONTINUE, OURS, Params
from discern.report.summary import LABELLED, Answer, Difference, Measure, Summary, Worth, rounded
from discern.report.table import explanation, headline, number, span
from discern.tracking import run_record
from discern.workspace import Workspace

JUDGED = tuple(m for m in LABELLED if m.key in ("retrieval.rank1", "knn.top1", "probe.top1"))

BySeed = dict[str, NDArray[np.float64]]
"""Outcomes (S, N) by column."""


def worth(params: Params, metrics: dict[str, list[dict[str, Any]]], outcomes: dict[str, BySeed]) -> Worth | None:
    """Compare the best label-free trained method with the frozen one; None where either is missing.

    Both are chosen without test: frozen ones and trained ones by their kNN accuracy on val, the first in the table
    where val has no labels.

    Args:
        params: `methods` and what they are.
        metrics: of every method, for each seed.
        outcomes: of every method, for each seed and test image.
    """
    kinds = {name: params.described.get(name) for name in params.methods.all}
    frozen = [name for name, method in kinds.items() if isinstance(method, Frozen) and method.weights == "base"]
    # Ours and its controls have no description of their own, and are trained. They stand last, where nothing is
    # measured: what docs/evidence.md says of training was found with the methods that are compared.
    learnt = [name for name, method in kinds.items() if not isinstance(method, FloorMethod | LabelledMethod)]
    learnt.sort(key=lambda name: name not in params.methods.compared)
    if not frozen or not learnt:
        return None
    plain = next((name for name in frozen if not params.described[name].components), frozen[0])  # type: ignore[union-attr]
    start, trained = _best(frozen, metrics), _best(learnt, metrics)
    bootstrap = params.evaluate.bootstrap
    differences = {
        measure.key: found
        for measure in JUDGED
        if (found := _difference(outcomes[trained], outcomes[plain], measure, bootstrap)) is not None
    }
    answer = _answer(list(differences.values()))
    return Worth(
        answer=answer,
        frozen=plain,
        trained=trained,
        recommended=trained if answer in ("yes", "not measured") else start,
        seeds=len(params.methods.seeds),
        differences=differences,
    )


def opening(summary: Summary, workspace: Workspace) -> list[str]:
    """What a reader is told first, a headline and sentences: whether training was worth it, then how ours did."""
    ours = [headline(summary), *explanation(summary)]
    if summary.worth is None:
        return ours
    head, *rest = sentences(summary.worth, minutes(workspace, summary.worth.trained, summary.seeds))
    return [head, *rest, f"{ours[0]}.", *ours[1:]]


def sentences(found: Worth, minutes: float | None) -> list[str]:
    """The answer in plain words, the first one as a headline.

    Args:
        found: the answer.
        minutes: that training took; None where it was not recorded.
    """
    cost = "its training" if minutes is None else f"{max(1, round(minutes))} min of training"
    head = {
        "yes": "Training on your photographs was worth it",
        "no": "Training on your photographs was not worth it",
        "undecided": "Whether training on your photographs was worth it cannot be told from these images",
        "not measured": "Without labels nobody can say whether training was worth it",
    }[found.answer]
    said = [f"{head}: use {found.recommended}"]
    names = {measure.key: measure for measure in JUDGED}
    for key, difference in found.differences.items():
        measure = names[key]
        said.append(
            f"{measure.title}: {found.trained} {number(measure, difference.mean, signed=True)} points against"
            f" {found.frozen}, 95 % interval {span(measure, difference.interval, signed=True)}."
        )
    covered = "test images and seeds" if found.seeds > 1 else "test images, not the luck of training (one seed)"
    if found.differences:
        said.append(f"That is what {cost} gave. Intervals cover {covered}; the method was chosen on val.")
    else:
        said.append(
            f"docs/evidence.md says where training paid; {found.trained} took {cost}. Label a hundred test"
            " photographs, and this page measures what it gave."
        )
    return said


def _best(methods: list[str], metrics: dict[str, list[dict[str, Any]]]) -> str:
    """The best on val by kNN, the mean over seeds; the first of equals."""
    return max(
        methods, key=lambda name: float(np.mean([m.get("knn", {}).get("val_top1", 0.0) for m in metrics[name]]))
    )


def _difference(ours: BySeed, theirs: BySeed, measure: Measure, bootstrap: Bootstrap) -> Difference | None:
    column = measure.column or ""
    if column not in ours or column not in theirs:
        return None
    found = paired_over_seeds(ours[column], theirs[column], bootstrap.samples, bootstrap.seed)
    return Difference(mean=rounded(found.mean), interval=(rounded(found.low), rounded(found.high)))


def _answer(differences: list[Difference]) -> Answer:
    if not differences:
        return "not measured"
    better = any(d.interval[0] > 0 for d in differences)
    worse = any(d.interval[1] < 0 for d in differences)
    if better == worse:
        return "undecided"
    return "yes" if better else "no"


def minutes(workspace: Workspace, method: str, seeds: Sequence[int]) -> float | None:
    """What training a method takes for one seed, with the stages it rests on; None where it was not recorded."""
    seconds = {record.stage: record.seconds for record in run_record.load_all(workspace)}
    scored = ("pretrain_decoder@{}", "score_features@{}", "synthesize_pairs@{}")
    ways = (
        (f"train_method@{method}-{{}}",),
        (*scored, f"train_control@{method}-{{}}"),
        (*scored, "train_encoder@{}") if method == OURS else (),
        ("pretrain_decoder@{}", "train_continue@{}") if method == CONTINUE else (),
    )
    for stages in ways:
        wanted = [stage.format(seed) for stage in stages for seed in seeds]
        if wanted and all(stage in seconds for stage in wanted):
            return sum(seconds[stage] for stage in wanted) / len(seeds) / 60
    return None
