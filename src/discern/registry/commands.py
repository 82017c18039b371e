"""Commands of the model registry: `discern register`, `promote`, `rollback` and `versions`."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

NameOption = Annotated[str, typer.Option("--name", help="Registered model.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept with the version and in the log.")]


def register(
    method: Annotated[
        str | None, typer.Option("--method", help="Which encoder; by default the recommended one, else discern's.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of its training; by default the first.")] = None,
    name: NameOption = "discern",
) -> None:
    """Make a version of a trained encoder: weights, pt2, ONNX, index, figures and model card."""
    from discern.params.load import load
    from discern.registry.package import package
    from discern.registry.store import Store
    from discern.report.summary import recommended
    from discern.workspace import Workspace

    best, first, _ = recommended(Path.cwd())
    method, seed = method or best, first if seed is None else seed
    params, workspace = load(Path("params.yaml")), Workspace(Path.cwd())
    with tempfile.TemporaryDirectory(prefix="discern-") as scratch:
        made = package(params, workspace, method, seed, Path(scratch, "encoder"))
        number = Store(name).publish(made)
    typer.echo(f"{name} version {number}: {method}, seed {seed}, evaluation {made.evidence.digest[:12]}")


def promote(
    version: Annotated[str, typer.Argument(help="Number or alias.")],
    reason: ReasonOption,
    name: NameOption = "discern",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the checks find.")] = False,
) -> None:
    """Make a version champion, if it meets `promote` in params.yaml."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from discern.params.load import load
    from discern.registry import promotion
    from discern.registry.store import Store

    store = Store(name)
    decision = promotion.decide(store, version, load(Path("params.yaml")))
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in decision.checks:
        table.add_row("[green]✓[/green]" if check.passed else "[red]✗[/red]", check.name, escape(check.detail))
    Console(highlight=False).print(table)
    if dry_run:
        return
    promotion.promote(store, decision, reason)
    typer.echo(f"{name}: version {decision.version} is champion, {decision.champion or 'none'} was")


def rollback(reason: ReasonOption, name: NameOption = "discern") -> None:
    """Make the champion before this one champion again."""
    from discern.registry import promotion
    from discern.registry.store import Store

    now, before = promotion.rollback(Store(name), reason)
    typer.echo(f"{name}: version {now} is champion again, {before} was")


def versions(name: NameOption = "discern") -> None:
    """List versions with their aliases, and the log of promotions."""
    from rich.console import Console
    from rich.table import Table

    from discern.registry.store import Store

    store = Store(name)
    table, log = Table(box=None, pad_edge=False), Table(box=None, pad_edge=False)
    for head in ("version", "aliases", "method", "seed", "commit", "evaluation"):
        table.add_column(head)
    named = store.aliases()
    for one in store.versions():
        tags = one.tags
        cells = (tags.get(key, "") for key in ("discern.method", "discern.seed", "git.commit", "discern.digest"))
        method, seed, commit, digest = cells
        table.add_row(
            str(one.version),
            ", ".join(sorted(a for a, v in named.items() if v == str(one.version))),
            method,
            seed,
            commit[:7],
            digest[:12],
        )
    for head in ("when (UTC)", "action", "version", "instead of", "by", "because"):
        log.add_column(head)
    for event in store.log():
        when = f"{event.when:%Y-%m-%d %H:%M}"
        log.add_row(when, event.action, event.version, event.replaced or "–", event.author, event.reason)
    console = Console(highlight=False, markup=False)
    console.print(table)
    if log.row_count:
        console.print()
        console.print(log)
