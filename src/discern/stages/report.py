"""report: the table of methods, and the one HTML file that shows how it came about."""

from discern.run.context import Context
from discern.workspace import atomic_file


def run(ctx: Context) -> None:
    """Write metrics/summary.json, reports/table.md, reports/pairs.png and reports/report.html."""
    from discern.report import gallery, pictures
    from discern.report.aggregate import summarise
    from discern.report.page import render
    from discern.report.table import markdown
    from discern.report.worth import opening

    workspace = ctx.workspace
    table, grid = (workspace.report.with_name(name) for name in ("table.md", "pairs.png"))
    summary = summarise(ctx.params, workspace)
    with atomic_file(workspace.summary) as path:
        summary.write(path)
    with atomic_file(table) as path:
        path.write_text(markdown(summary, opening(summary, workspace)), encoding="utf-8")
    with atomic_file(grid) as path:
        gallery.grid(pictures.pair_grid(ctx.params, workspace), path)
    with atomic_file(workspace.report) as path:
        path.write_text(render(ctx.params, workspace, summary), encoding="utf-8")

    figures = {
        f"{method}.{key}": figure.mean
        for method, found in summary.methods.items()
        for key, figure in found.items()
    }
    ctx.record.metrics(figures)
    ctx.record.pipeline_metrics(figures)
    for file in (workspace.report, table):
        ctx.record.pipeline_artifact(file)
    ctx.record.artifact(workspace.summary)
