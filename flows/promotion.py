"""The regular look at the registry: does the newest version deserve to be champion?"""

from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from discern.params.load import load
from discern.registry import promotion
from discern.registry.promotion import Decision


@flow(name="promotion-check", validate_parameters=True)
def promotion_check(
    name: str = "discern", version: str = "", promote: bool = False, reason: str = "scheduled check"
) -> None:
    """Show every check of a candidate; on demand, promote it.

    Args:
        name: registered model.
        version: number or alias of the candidate; empty: the newest.
        promote: make it champion where every check holds.
        reason: kept with the version and in the log.
    """
    from discern.registry.store import Store

    store = Store(name)
    candidates = store.versions()
    if not candidates:
        get_run_logger().info("%s has no version yet; `discern register` makes one", name)
        return
    chosen = version or str(candidates[0].version)
    if chosen == store.alias("champion"):
        get_run_logger().info("the newest version, %s, is champion", chosen)
        return
    decision = promotion.decide(store, chosen, load(Path("params.yaml")))
    if promote and decision.passed:
        promotion.promote(store, decision, reason)
    create_markdown_artifact(checks(decision, promote), key="promotion", description="Checks of a candidate")


def checks(decision: Decision, promote: bool) -> str:
    """The checks as Markdown, with what came of them."""
    became = "is champion now" if promote else "could be champion"
    verdict = became if decision.passed else "stays what it is"
    rows = [f"| {'✓' if c.passed else '✗'} | {c.name} | {c.detail} |" for c in decision.checks]
    head = f"Version {decision.version} {verdict}; champion before: {decision.champion or 'none'}."
    return "\n".join([head, "", "| | check | found |", "| --- | --- | --- |", *rows]) + "\n"
