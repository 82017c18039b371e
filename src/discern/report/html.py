"""How templates of this project become pages."""

from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def environment(package: str) -> Environment:
    """Jinja for the templates of a package, with the project's style as the variable `style`.

    Lines of a template leave no blank lines in <pre>, and a misspelt name is an error, not an empty section.
    """
    made = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("discern.report").joinpath("templates/style.css").read_text(encoding="utf-8")
    made.globals["style"] = Markup(style)  # noqa: S704  our own file
    return made
