"""All that can be wrong with a project's parameters, told at once: for `discern check` and `discern doctor`."""

from pathlib import Path

from discern.errors import ParamsError
from discern.params.links import check_links
from discern.params.load import METHODS, load, load_methods
from discern.params.methods import Method
from discern.params.pipeline import Params


def check(path: Path) -> tuple[Params, dict[str, Method]]:
    """Check params.yaml, every method described beside it, trained or not, and the link to each method's code.

    Args:
        path: of params.yaml.

    Returns:
        The parameters, and every method by name.

    Raises:
        ParamsError: anything is wrong; a line for each mistake.
    """
    folder = path.parent / METHODS
    told: list[str] = []
    for look in (lambda: load(path), lambda: load_methods(folder), lambda: check_links(folder)):
        try:
            look()
        except ParamsError as error:
            told += str(error).splitlines()
    if told:  # what a trained method's file has wrong is told by the first and by the second
        raise ParamsError("\n".join(dict.fromkeys(told)))
    return load(path), load_methods(folder)
