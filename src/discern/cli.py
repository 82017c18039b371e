"""The command `discern`: what no other tool of the stack does. Stages run through `dvc repro`."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from discern import __version__, load
from discern.errors import DataError, DiscernError, InterruptedStageError
from discern.registry import commands as registry

# Nothing heavy is imported above the commands: `discern --help` answers at once.
PARAMS = Path("params.yaml")

app = typer.Typer(
    help="Self-supervised fine-grained recognition. The pipeline runs with `dvc repro` (or `make demo`); "
    "these commands look at its results and put its encoders to use.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        help="Folder of a trained encoder (models/encoders/METHOD/SEED), or models:/NAME@ALIAS; by default the one"
        " that the report recommends, else discern's.",
    ),
]


def main() -> NoReturn:
    """Run the command line; a user's error is one line and its exit code, never a traceback."""
    from discern.settings import silence_telemetry

    silence_telemetry()
    try:
        app(prog_name="discern")
    except DiscernError as error:
        typer.echo(f"discern: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(0)  # typer has left already; for the type checker and for readers


def _chosen(encoder: str | None) -> str:
    """The encoder that is asked for, or the recommended one, which is told."""
    if encoder is not None:
        return encoder
    from discern.report.summary import recommended

    method, seed, told = recommended(Path.cwd())
    folder = f"models/encoders/{method}/{seed}"
    if told:
        typer.echo(f"discern: {folder}, which the report recommends", err=True)
    return folder


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"discern {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def results() -> None:
    """Print the table of methods and where the report is."""
    from rich.console import Console

    from discern.report import terminal
    from discern.report.summary import read_summary
    from discern.report.worth import opening
    from discern.workspace import Workspace

    workspace = Workspace(Path.cwd())
    summary = read_summary(workspace.summary.relative_to(Path.cwd()))
    console = Console(highlight=False)
    console.print(terminal.methods(summary))
    if (shares := terminal.shares(summary)) is not None:
        console.print()
        console.print(shares)
    head, *rest = opening(summary, workspace)
    console.print(f"\n[bold]{head}.[/bold]")
    for sentence in rest:
        console.print(sentence)
    if workspace.report.is_file():
        # Printed as it is: a path broken over two lines cannot be opened by clicking.
        typer.echo(f"\nreport: {workspace.report}")
    else:
        typer.echo("\nreport: none yet; `dvc repro report` makes it")


@app.command()
def compare(
    before: Annotated[str, typer.Argument(help="Commit, tag, branch, DVC experiment, or `workspace`.")] = "HEAD",
    after: Annotated[str, typer.Argument(help="The same.")] = "workspace",
    markdown: Annotated[bool, typer.Option("--md", help="Print Markdown, for a comment in a review.")] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the curves as well.")] = None,
) -> None:
    """Compare two revisions: figures with intervals, parameters, data, code, MLflow runs."""
    from rich.console import Console

    from discern.compare import render
    from discern.compare.comparison import compare as compare_revisions

    found = compare_revisions(Path.cwd(), before, after)
    if markdown:
        typer.echo(render.markdown(found), nl=False)
    else:
        Console(highlight=False, markup=False).print(render.terminal(found))
    if html:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(render.html(found), encoding="utf-8")
        typer.echo(f"page: {html.resolve()}", err=True)


@app.command()
def schema(
    of_method: Annotated[bool, typer.Option("--method", help="Of methods/NAME.yaml instead.")] = False,
) -> None:
    """Print the JSON schema of params.yaml."""
    from discern.params.load import json_schema

    typer.echo(json_schema(of_method), nl=False)


@app.command()
def check(file: Annotated[Path, typer.Argument(help="Parameter file.")] = PARAMS) -> None:
    """Check params.yaml and methods/; one line for each mistake."""
    from discern.params.check import check as check_all

    params, described = check_all(file)
    typer.echo(
        f"{file}: good; {len(params.methods.all)} methods ({', '.join(params.methods.all)}), "
        f"{len(params.methods.seeds)} seed{'s' if len(params.methods.seeds) > 1 else ''}"
    )
    typer.echo(f"{file.parent / 'methods'}: good; {len(described)} methods are described there")


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help="Preset; none: list them.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over uncommitted edits.")] = False,
) -> None:
    """Write a preset into params.yaml and methods/, and show the difference."""
    from rich.console import Console

    from discern.params import preset as overlays

    console, root = Console(highlight=False, markup=False, soft_wrap=True), Path()
    if not name:
        for known, about in overlays.presets(root).items():
            console.print(f"{known:15} {about}")
        return
    edit = overlays.prepared(root, name)
    if not edit.texts():
        typer.echo(f"presets/{name}.yaml is in force already; nothing changes")
        return
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in overlays.differences(edit):
        console.print(line, style=styles.get(line[:1]))
    if dry_run:
        return
    if not force:
        overlays.refuse_uncommitted(edit)
    edit.write()
    typer.echo(f"presets/{name}.yaml is written into the parameters; its header says what comes next")


@app.command()
def embed(
    folder: Annotated[Path, typer.Argument(help="Folder of photographs, searched with all below it.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .npz or .parquet.")],
    encoder: EncoderOption = None,
) -> None:
    """Write the features of a folder's photographs; a .parquet goes on where it was interrupted."""
    if out.suffix not in {".npz", ".parquet"}:
        raise DataError(f"--out {out}: the name must end in .npz or .parquet")
    from discern.machine import claim

    claim()  # before torch is imported
    from discern.embedding.files import write_features
    from discern.embedding.reading import names_in

    def tell(line: str) -> None:
        typer.echo(f"discern: {line}", err=True)

    try:
        names = names_in(folder)
        found = write_features(load(_chosen(encoder)), names, folder, out, tell)
    except KeyboardInterrupt as stopped:
        tell("interrupted" + "; the same command goes on where it stopped" * (out.suffix == ".parquet"))
        raise typer.Exit(InterruptedStageError.exit_code) from stopped
    for name, why in found.skipped.items():
        typer.echo(f"discern: {name} skipped: {why}", err=True)
    typer.echo(f"{out}: {found.count} photographs, {found.dim} features each")


@app.command()
def neighbours(
    photo: Annotated[Path, typer.Argument(help="A photograph.")],
    encoder: EncoderOption = None,
    among: Annotated[
        Path | None,
        typer.Option("--among", help="Folder of photographs; by default the images of training."),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = 6,
) -> None:
    """Print the images most like a photograph."""
    from rich.console import Console
    from rich.table import Table

    from discern.workspace import Workspace

    photos = load(_chosen(encoder))
    title = "image" if among else "training image"
    if among is None and photos.gallery is None:
        among = Workspace(Path.cwd()).packed("train").relative_to(Path.cwd())
        if not among.is_dir():
            raise DataError(f"{among}: no such folder; --among FOLDER says where to look for neighbours")
    for name, why in (photos.index(among) if among else {}).items():
        typer.echo(f"discern: {name} skipped: {why}", err=True)
    (found,) = photos.neighbours([photo], count)
    table = Table(box=None, pad_edge=False)
    table.add_column("similarity", justify="right")
    table.add_column("label")
    table.add_column(title, overflow="fold")
    for neighbour in found:
        table.add_row(f"{neighbour.similarity:.3f}", neighbour.label or "–", neighbour.name)
    Console(highlight=False, markup=False).print(table)


@app.command()
def sync() -> None:
    """Deliver to MLflow what it could not take when it was down."""
    from discern.errors import RegistryError
    from discern.tracking.deliver import deliver

    found = deliver()
    typer.echo(f"{len(found.stages)} records delivered{''.join(f', {stage}' for stage in found.stages)}")
    if found.error:
        raise RegistryError(f"MLflow does not take the rest ({found.left} records): {found.error}")


@app.command()
def pull(stage: Annotated[str, typer.Argument(help="Stage, e.g. train_encoder@0, or all of a name.")]) -> None:
    """Fetch from the DVC remote what a stage reads, and nothing else."""
    from discern.dvcfiles.pull import pull as pull_needed

    for path in pull_needed(Path.cwd(), stage):
        typer.echo(path)


@app.command()
def doctor(
    deep: Annotated[bool, typer.Option("--deep", help="Also check every file of DVC's cache.")] = False,
) -> None:
    """Say what interrupted runs left behind, and what would make the next one fail."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from discern.doctor import examine

    findings = examine(Path.cwd(), deep)
    table = Table(box=None, pad_edge=False, show_header=False)
    symbols = {"good": "[green]✓[/green]", "note": "[yellow]·[/yellow]", "bad": "[red]✗[/red]"}
    for finding in findings:
        table.add_row(symbols[finding.state], finding.what, escape(finding.detail))
    Console(highlight=False).print(table)
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


for command in (registry.register, registry.versions, registry.promote, registry.rollback):
    app.command()(command)
