"""A registered version for whoever has no project: from `models:/NAME@ALIAS` to the encoder with its index."""

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from discern.embedding.photos import PhotoEncoder
from discern.errors import ModelError, RegistryError
from discern.registry.evidence import packed
from discern.settings import home, settings, silence_telemetry
from discern.tracking.provenance import redacted

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

NAME = re.compile(r"models:/(?P<model>[^/@]+)(?:/(?P<number>\d+)|@(?P<alias>[^/@]+))")


def load_version(uri: str) -> PhotoEncoder:
    """The encoder of a registered version, with the training images' features as its gallery.

    Args:
        uri: `models:/NAME@ALIAS` or `models:/NAME/NUMBER`.

    Raises:
        RegistryError: there is no such version, or nothing says which MLflow to ask.
        ModelError: it was not made by `discern register`, or is damaged.
    """
    if (name := NAME.fullmatch(uri)) is None:
        raise RegistryError(f"{uri}: a registered version is models:/NAME@ALIAS or models:/NAME/NUMBER")
    server = _server(uri)
    silence_telemetry()  # MLflow reads what it sets while it is imported
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    client = MlflowClient(server, server)
    with tempfile.TemporaryDirectory(prefix="discern-") as scratch:
        try:
            place = _place(client, name["model"], name["number"], name["alias"])
            folder = Path(download_artifacts(place, dst_path=scratch, tracking_uri=server))
        except (MlflowException, OSError) as error:
            raise RegistryError(f"{uri}: {redacted(str(error), server)}") from error
        try:
            return PhotoEncoder.load(packed(folder))
        except ModelError as error:
            why = str(error).replace(f"{folder}/", "").removeprefix(f"{folder.name}: ")  # the folder goes away
            raise ModelError(f"{uri}: {why}") from error


def _place(client: "MlflowClient", model: str, number: str | None, alias: str | None) -> str:
    """Where the files of a version lie.

    Asked step by step: given `models:/…`, MLflow itself asks the server of its own settings whatever address it is
    handed, and a library must not change those for the caller.
    """
    version = number if alias is None else str(client.get_model_version_by_alias(model, alias).version)
    assert version is not None, "NAME asks for one of the two"
    place = client.get_model_version_download_uri(model, version)
    logged = place.removeprefix("models:/")
    return str(client.get_logged_model(logged).artifact_location) if logged != place else place


def _server(uri: str) -> str:
    """Address of the MLflow that holds the registry.

    Raises:
        RegistryError: neither a setting nor a database of this folder says it.
    """
    # Read anew: a notebook may set them after the settings were first asked for.
    given = os.environ.get("DISCERN_TRACKING_URI") or settings().tracking_uri
    if found := given or os.environ.get("MLFLOW_TRACKING_URI"):
        return found
    database = home() / "mlflow.db"
    if not database.is_file():
        raise RegistryError(
            f"{uri}: no mlflow.db in {home()}; set DISCERN_TRACKING_URI (or MLFLOW_TRACKING_URI) to the address of"
            " the MLflow server, or go to the project's folder"
        )
    return f"sqlite:///{database}"
