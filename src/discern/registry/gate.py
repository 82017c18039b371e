"""Whether a candidate may become champion: every check with its verdict and what was found.

Nothing here talks to a registry: versions come as folders, so that a decision can be made again from them.
"""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from discern.compare.paired import difference, same_images
from discern.params.evaluation import Bootstrap
from discern.params.promotion import Promotion
from discern.registry.evidence import Evidence, read_evidence, tampered
from discern.report.summary import MEASURES, Measure
from discern.report.table import number, span

SECONDS = 300  # for a fresh process to load a model and predict


@dataclass(frozen=True)
class Check:
    """One condition of a promotion.

    Attributes:
        name: what was looked at.
        passed: whether it holds.
        detail: what was found, for the log.
    """

    name: str
    passed: bool
    detail: str


def examine(
    candidate: Path, sums: tuple[str, str], champion: Path | None, policy: Promotion, bootstrap: Bootstrap
) -> list[Check]:
    """Every check of a candidate; those that need a champion only where there is one.

    Args:
        candidate: MLflow's folder of the candidate version.
        sums: checksum of its list of checksums and digest of its code, as they were registered.
        champion: MLflow's folder of the present champion.
        policy: what is asked for.
        bootstrap: of the paired interval.

    Raises:
        ModelError: a version holds no evaluation.
    """
    if changed := tampered(candidate, *sums):
        return [Check("as registered", False, changed)]  # nothing else that it says can be believed
    evidence, outcomes = read_evidence(candidate)
    checks = [
        Check("as registered", True, "every file has its checksum"),
        _clean(evidence),
        _floor(evidence, policy),
        _fresh_process(candidate),
    ]
    if champion is None:
        return [*checks, Check("better than the champion", True, "there is no champion yet")]
    theirs, their_outcomes = read_evidence(champion)
    comparable = _same_evaluation(evidence, theirs, outcomes, their_outcomes)
    checks.append(comparable)
    if comparable.passed:
        checks.append(_better(outcomes, their_outcomes, policy, bootstrap))
        checks.append(_no_class_worse(outcomes, their_outcomes, policy))
    return checks


def _clean(evidence: Evidence) -> Check:
    if not evidence.commit:
        return Check("clean tree", False, "it is not known from which commit it was trained")
    state = "with uncommitted changes" if evidence.dirty else "without changes"
    return Check("clean tree", not evidence.dirty, f"trained from {evidence.commit[:7]} {state}")


def _floor(evidence: Evidence, policy: Promotion) -> Check:
    found, measure = evidence.figure(policy.measure), _measure(policy)
    if found is None:
        return Check("floor", False, f"it has no {policy.measure}")
    detail = f"{policy.measure} {number(measure, found)}, at least {number(measure, policy.floor)} is asked for"
    return Check("floor", found >= policy.floor, detail)


def _same_evaluation(ours: Evidence, theirs: Evidence, a: pd.DataFrame, b: pd.DataFrame) -> Check:
    name = "same evaluation"
    if ours.splits["test"] != theirs.splits["test"] or not same_images([a, b]):
        return Check(name, False, "the champion was evaluated on other test images; register it anew on these")
    if ours.digest != theirs.digest:
        return Check(name, False, "the champion was evaluated by another protocol (params `evaluate`)")
    note = "" if ours.splits["train"] == theirs.splits["train"] else "; the training images differ"
    return Check(name, True, f"test images and protocol have digest {ours.digest[:12]}{note}")


def _better(ours: pd.DataFrame, theirs: pd.DataFrame, policy: Promotion, bootstrap: Bootstrap) -> Check:
    """The interval of the paired difference must lie above zero, and its mean reach the margin."""
    name, measure = "better than the champion", _measure(policy)
    assert measure.column is not None, "params: only measures with outcomes can be promoted by"
    found = difference([theirs], [ours], measure.column, bootstrap.samples, bootstrap.seed)
    if found is None:
        return Check(name, False, f"one of the two has no outcomes of {policy.measure}")
    detail = (
        f"{policy.measure} {number(measure, found.mean, signed=True)} points"
        f" ({span(measure, (found.low, found.high), signed=True)}), asked for: an interval above 0 and at least"
        f" {number(measure, policy.margin, signed=True)}"
    )
    return Check(name, found.low > 0 and found.mean >= policy.margin, detail)


def _no_class_worse(ours: pd.DataFrame, theirs: pd.DataFrame, policy: Promotion) -> Check:
    """No class of enough test images may lose more of them than the limit."""
    column, name = _measure(policy).column, "no class worse"
    assert column is not None
    changes = ours[column].astype(float) - theirs[column].astype(float)
    folders = ours["path"].map(lambda path: Path(path).parent.name)
    worst, drop = "", -1.0
    for label, rows in ours.groupby("label_id").groups.items():
        known = changes[rows].dropna()
        if int(str(label)) >= 0 and len(known) >= policy.class_images and -known.mean() > drop:
            worst, drop = folders[rows[0]] or str(label), float(-known.mean())
    if not worst:
        return Check(name, True, f"no class has {policy.class_images} test images")
    limit = 100 * policy.class_drop
    detail = f"{worst} changes most for the worse, by {-100 * drop:+.1f} points; {limit:.1f} may be lost"
    # A mean of shares: a loss of 0.1 must not fail against a limit of 0.1.
    return Check(name, drop <= policy.class_drop + 1e-9, detail)


def _fresh_process(candidate: Path) -> Check:
    # As a file: as a module it would bring in this project's code, where the version's own must serve.
    command = [sys.executable, "-P", str(Path(__file__).with_name("trial.py")), str(candidate)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Check("predicts in a fresh process", False, f"no answer in {SECONDS} s")
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return Check(
        "predicts in a fresh process", done.returncode == 0, lines[-1] if lines else "it died without a word"
    )


def _measure(policy: Promotion) -> Measure:
    return next(measure for measure in MEASURES if measure.key == policy.measure)
