"""Promote and roll back: one decision at a time, logged with its reasons."""

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from discern.errors import PromotionError, RegistryError
from discern.params.pipeline import Params
from discern.registry.gate import Check, examine
from discern.registry.store import CHAMPION, CHECKSUM, CODE, PREVIOUS, Store


@dataclass(frozen=True)
class Decision:
    """What became of a candidate."""

    version: str
    champion: str | None
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)


def decide(store: Store, version: str, params: Params) -> Decision:
    """Look at a candidate without changing anything.

    Args:
        store: the registered model.
        version: number or alias of the candidate.
        params: `promote` and `evaluate.bootstrap` decide.

    Raises:
        RegistryError: the version, or the champion's artifacts, do not exist.
        PromotionError: it is champion already.
    """
    candidate = store.version(version)
    champion = store.alias(CHAMPION)
    number = str(candidate.version)
    if number == champion:
        raise PromotionError(f"{store.name} version {champion} is champion already")
    with tempfile.TemporaryDirectory(prefix="discern-") as scratch:
        ours = store.download(number, Path(scratch, "candidate"))
        theirs = store.download(champion, Path(scratch, "champion")) if champion else None
        sums = candidate.tags.get(CHECKSUM, ""), candidate.tags.get(CODE, "")
        checks = examine(ours, sums, theirs, params.promote, params.evaluate.bootstrap)
    return Decision(number, champion, checks)


def promote(store: Store, decision: Decision, reason: str) -> None:
    """Make the candidate champion.

    Raises:
        PromotionError: a check failed, or another version became champion in the meantime.
    """
    if not decision.passed:
        failed = [check for check in decision.checks if not check.passed]
        raise PromotionError(
            f"version {decision.version} stays what it is: " + "; ".join(f"{c.name}: {c.detail}" for c in failed)
        )
    with store.lock:
        if store.alias(CHAMPION) != decision.champion:
            raise PromotionError("another version became champion in the meantime; try again")
        store.crown(decision.version, "promote", reason, [asdict(check) for check in decision.checks])


def rollback(store: Store, reason: str) -> tuple[str, str]:
    """Make the version before the champion champion again.

    Returns:
        The version that is champion now, and the one that was.

    Raises:
        RegistryError: there is no version to go back to.
    """
    with store.lock:
        present, before = store.alias(CHAMPION), store.alias(PREVIOUS)
        if present is None or before is None or present == before:
            raise RegistryError(
                f"{store.name}: no earlier champion to go back to; `discern versions` shows the log"
            )
        store.crown(before, "rollback", reason, [])
        # Not what was just rolled back from, or a second rollback would bring it back.
        replaced = (
            event.replaced for event in store.log() if event.version == before and event.action == "promote"
        )
        store.point_previous(next(filter(None, replaced), None))
    return before, present
