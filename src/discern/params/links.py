"""The links beside methods/*.yaml: each leads to the code of its method, which DVC watches through it."""

from pathlib import Path

from discern.errors import ParamsError
from discern.params.model import MethodModel


def check_link(folder: Path, name: str, description: MethodModel) -> None:
    """Refuse a method whose code DVC would not watch: results could be stale, and nothing would say so.

    Args:
        folder: methods/ of a project; where there is no src/discern beside it there is no code to watch.
        name: of the method.
        description: what stands in its file.

    Raises:
        ParamsError: the link is missing or leads elsewhere.
    """
    source = folder.absolute().parent / "src"
    if not (source / "discern").is_dir():
        return
    module = source.joinpath(*description.built_by.split(".")).with_suffix(".py")
    link = folder / name
    if link.exists() and module.resolve().is_relative_to(link.resolve()):
        return
    parts = description.built_by.split(".")
    # discern.methods.ROLE.FILE, or a folder in the place of the file
    code = Path("..", "src", *parts[:4]) if len(parts) > 4 else Path("..", "src", *parts).with_suffix(".py")
    state = "leads to other code" if link.exists() else "is missing"
    raise ParamsError(
        f"{link}: the link to the method's code {state}; `ln -sfn {code} {link}` makes it, so that an edit there"
        " trains the method again"
    )
