"""The links beside methods/*.yaml: each leads to the code of its method, which DVC watches through it."""

from collections.abc import Mapping
from pathlib import Path

from discern.errors import ParamsError
from discern.params.model import MethodModel


def check_links(folder: Path, described: Mapping[str, MethodModel]) -> None:
    """Check the link of every method that a project describes.

    Args:
        folder: methods/ of a project.
        described: its methods, by name, as `read_methods` gives them.

    Raises:
        ParamsError: links are missing or lead elsewhere; a line for each.
    """
    problems = [problem for name, one in described.items() if (problem := _wrong(folder, name, one))]
    if problems:
        raise ParamsError("\n".join(problems))


def check_link(folder: Path, name: str, description: MethodModel) -> None:
    """Refuse a method whose code DVC would not watch: results could be stale, and nothing would say so.

    Args:
        folder: methods/ of a project; where there is no src/discern beside it there is no code to watch.
        name: of the method.
        description: what stands in its file.

    Raises:
        ParamsError: the link is missing or leads elsewhere.
    """
    if problem := _wrong(folder, name, description):
        raise ParamsError(problem)


def _wrong(folder: Path, name: str, description: MethodModel) -> str | None:
    """What is wrong with one link, with the command that mends it."""
    if not (folder.absolute().parent / "src" / "discern").is_dir():
        return None
    parts = description.built_by.split(".")
    # discern.methods.ROLE.FILE, or a folder in the place of the file: then all of it counts, not one module in it.
    code = Path("..", "src", *parts[:4]) if len(parts) > 4 else Path("..", "src", *parts).with_suffix(".py")
    link = folder / name
    if not link.exists():
        state, remove = "is missing", ""
    elif link.resolve() == (folder / code).resolve():
        return None
    else:
        state = "leads to other code" if link.is_symlink() else "is a copy or another file"
        remove = "" if link.is_symlink() else f"rm -r {link} && "
    return (
        f"{link}: the link to the method's code {state}; `{remove}ln -sfn {code} {link}` makes it, so that an edit"
        " there trains the method again"
    )
