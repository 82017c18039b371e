"""Stage download: photographs, drawn or brought, as one tar with a listing."""

import json
import logging

from discern.data import sources
from discern.run.context import Context
from discern.workspace import atomic_dir

log = logging.getLogger(__name__)


def run(ctx: Context) -> None:
    """Fill data/raw."""
    raw = ctx.workspace.raw
    with atomic_dir(raw) as folder:
        source = sources.write(ctx.params.dataset, ctx.workspace, folder)
        (folder / "source.json").write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")
    ctx.record.metrics({name: source[name] for name in ("images", "classes")})
    ctx.record.artifact(raw / "source.json")
    log.info("%s: %d images, %d classes", source["name"], source["images"], source["classes"])
