"""All that can be wrong with a project's parameters, told at once: for `discern check` and `discern doctor`."""

from pathlib import Path

from discern.errors import ParamsError
from discern.params.links import check_links
from discern.params.load import METHODS, load, read_methods
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
    methods, unreadable = read_methods(folder)
    told: list[str] = []
    try:
        params = load(path)
    except ParamsError as error:
        told += str(error).splitlines()
    told += unreadable
    try:
        check_links(folder, methods)
    except ParamsError as error:
        told += str(error).splitlines()
    if told:  # what a trained method's file has wrong is told with the parameters and with the methods
        raise ParamsError("\n".join(dict.fromkeys(told)))
    return params, methods
