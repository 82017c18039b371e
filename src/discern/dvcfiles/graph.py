"""What DVC's files say about one stage: the parameters it reads and the stages it builds upon."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.dvcfiles.read import overlap, stages


@dataclass(frozen=True)
class Declared:
    """One stage as DVC knows it.

    Attributes:
        params: dotted keys of the parameters that the stage reads, `described.NAME` for those of a method; None
            where dvc.yaml does not know the stage.
        upstream: ids of all stages whose results it uses, directly or not.
    """

    params: list[str] | None
    upstream: frozenset[str]


def declared(root: Path, stage: str, values: Mapping[str, object]) -> Declared:
    """Look one stage up.

    Args:
        root: folder of dvc.yaml and dvc.lock.
        stage: its name, without matrix key.
        values: what stands for `${…}` in dvc.yaml, e.g. `{"item.method": "simclr", "pretrain_decoder.loss": …}`.
    """
    entry = stages(root / "dvc.yaml").get(stage)
    if entry is None:
        return Declared(None, frozenset())

    def listed(key: str) -> list[str]:
        names = [name for one in entry.get(key, []) for name in ([one] if isinstance(one, str) else one)]
        return [re.sub(r"\$\{([\w.]+)\}", lambda match: str(values.get(match[1], "")), name) for name in names]

    params = [re.sub(r"^methods/(\w+)\.yaml$", r"described.\1", name) for name in listed("params")]
    params = [name for name in params if not name.endswith(".yaml")]
    return Declared(params, _upstream(stages(root / "dvc.lock"), listed("deps")))


def _upstream(locked: Mapping[str, Any], deps: list[str]) -> frozenset[str]:
    found: set[str] = set()
    paths = list(deps)
    while paths:
        path = paths.pop()
        for name, entry in locked.items():
            if name not in found and any(overlap(path, out["path"]) for out in entry.get("outs", [])):
                found.add(name)
                paths += [dep["path"] for dep in entry.get("deps", [])]
    return frozenset(found)
