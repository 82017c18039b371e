"""Self-supervised fine-grained visual recognition, with a record of how every number came about."""

from os import PathLike
from typing import TYPE_CHECKING

from discern.version import __version__

if TYPE_CHECKING:  # `import discern` must answer at once, and the encoder brings torch
    from discern.embedding.photos import PhotoEncoder

__all__ = ["__version__", "load"]


def load(where: str | PathLike[str]) -> "PhotoEncoder":
    """A trained encoder, ready for photographs; works outside a project.

    Args:
        where: folder of an encoder (`models/encoders/METHOD/SEED`), or a registered version, `models:/NAME@ALIAS`
            or `models:/NAME/NUMBER`, which MLflow fetches.

    Raises:
        ModelError: the encoder is missing or damaged, or the version was not made by `discern register`.
        RegistryError: there is no such version, or nothing says which MLflow to ask.
    """
    if str(where).startswith("models:"):
        from discern.registry.fetch import load_version

        return load_version(str(where))
    from discern.embedding.photos import PhotoEncoder

    return PhotoEncoder.load(where)
