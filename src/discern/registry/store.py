"""Versions, aliases and the log of promotions in MLflow's model registry."""

import getpass
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from filelock import FileLock
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from mlflow.types.schema import Array
from PIL import Image

from discern.errors import RegistryError
from discern.nested import flat
from discern.registry.evidence import code_digest
from discern.registry.package import Package
from discern.registry.serving import NEIGHBOURS
from discern.settings import home, settings, silence_telemetry
from discern.tracking import provenance
from discern.tracking.mlflow_store import Target, experiment_id

CHAMPION, PREVIOUS = "champion", "previous"
CHECKSUM, CODE = "discern.checksum", "discern.code"
# What serving imports, pinned to what the model was verified with; without a list MLflow guesses for seconds.
REQUIREMENTS = (
    "mlflow", "numpy", "pandas", "pillow", "psutil", "pyarrow", "pydantic", "pydantic-settings", "rich",
    "safetensors", "scikit-learn", "scipy", "timm", "torch", "torchvision",
)  # fmt: skip


@dataclass(frozen=True)
class Event:
    """One line of the promotions log."""

    action: str
    version: str
    replaced: str
    author: str
    reason: str
    when: pd.Timestamp


class Store:
    """The registered model `name`.

    Args:
        name: of the registered model.
    """

    def __init__(self, name: str) -> None:
        silence_telemetry()
        self.name = name
        uri = settings().resolved_tracking_uri
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        self.client = MlflowClient(uri, uri)
        origin = provenance.git_state(home())
        self._target = Target(
            uri=uri, experiment=settings().experiment, home=home(), pipeline="", stage="", parent_name="",
            started=int(time.time() * 1000), tags=origin,
        )  # fmt: skip
        with self._target.lock, _answers(uri):
            self._experiment = experiment_id(self.client, self._target)

    def publish(self, package: Package) -> str:
        """Make a version of a finished folder; returns its number."""
        evidence = package.evidence
        source = Path(__file__).parents[1]
        figures = {k: v for k, v in flat(evidence.figures).items() if isinstance(v, int | float)}
        with (
            _answers(self._target.uri),
            self._run(f"register {evidence.method}-{evidence.seed}", "register") as run,
        ):
            mlflow.log_metrics(figures)
            mlflow.log_artifact(str(package.folder / "README.md"))
            info = mlflow.pyfunc.log_model(
                name=evidence.method,
                loader_module="discern.registry.serving",
                data_path=str(package.folder),
                code_paths=[str(source)],
                signature=signature(labelled="probe" in evidence.figures),
                pip_requirements=[f"{name}=={installed(name)}" for name in REQUIREMENTS],
                input_example=_example(package.folder),
                registered_model_name=self.name,
                await_registration_for=60,
            )
            number = str(info.registered_model_version)
            tags = {
                CHECKSUM: package.checksum,
                CODE: code_digest(source.parent),
                "discern.method": evidence.method,
                "discern.seed": str(evidence.seed),
                "discern.digest": evidence.digest,
                "git.commit": evidence.commit,
                "git.dirty": str(evidence.dirty).lower(),
            }
            for key, value in tags.items():
                self.client.set_model_version_tag(self.name, number, key, value)
            card = (package.folder / "README.md").read_text(encoding="utf-8")
            self.client.update_model_version(self.name, number, card)
            mlflow.set_tags({"model": self.name, "version": number, "run": run})
        return number

    def version(self, name: str) -> ModelVersion:
        """A version by its number or alias.

        Raises:
            RegistryError: there is none.
        """
        try:
            if name.isdigit():
                return self.client.get_model_version(self.name, name)
            return self.client.get_model_version_by_alias(self.name, name)
        except MlflowException as error:
            raise RegistryError(
                f"{self.name}: no version or alias {name!r}; `discern versions` lists them"
            ) from error

    def aliases(self) -> dict[str, str]:
        """Number of the version that each alias names."""
        try:
            found = self.client.get_registered_model(self.name).aliases
        except MlflowException:  # no version was registered yet
            return {}
        return {alias: str(number) for alias, number in found.items()}

    def alias(self, alias: str) -> str | None:
        """Number of the version that has an alias, None where none has."""
        return self.aliases().get(alias)

    def versions(self) -> list[ModelVersion]:
        """Every version, newest first."""
        found = self.client.search_model_versions(f"name = '{self.name}'", max_results=1000)
        return sorted(found, key=lambda version: -int(version.version))

    def download(self, number: str, folder: Path) -> Path:
        """Fetch a version: MLflow's folder, with `code` and with what `discern register` packed.

        Raises:
            RegistryError: its artifacts are gone.
        """
        try:
            uri = f"models:/{self.name}/{number}"
            return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
        except (MlflowException, OSError) as error:
            why = provenance.redacted(str(error), self._target.uri)
            raise RegistryError(f"{self.name} version {number}: its artifacts cannot be read: {why}") from error

    def crown(self, number: str, action: str, reason: str, checks: list[dict[str, Any]]) -> None:
        """Make a version champion, the present one previous, and log it.

        Should this process die in between, `previous` and `champion` name the same version, and the command can
        be given again.
        """
        replaced = self.alias(CHAMPION) or ""
        author = getpass.getuser()
        with self._run(f"{action} {self.name} {number}", "promotion"):
            mlflow.log_dict({"checks": checks}, "checks.json")
            if replaced and replaced != number:
                self.client.set_registered_model_alias(self.name, PREVIOUS, replaced)
            self.client.set_registered_model_alias(self.name, CHAMPION, number)
            tags = {"action": action, "author": author, "reason": reason}
            for key, value in tags.items():
                self.client.set_model_version_tag(self.name, number, f"promotion.{key}", value)
            mlflow.set_tags({"model": self.name, "version": number, "replaced": replaced, **tags})

    @property
    def lock(self) -> FileLock:
        """Held while aliases are looked at and changed, by everybody who shares this checkout."""
        return self._target.lock

    def point_previous(self, number: str | None) -> None:
        """Point `previous` at a version, or at none."""
        if number:
            self.client.set_registered_model_alias(self.name, PREVIOUS, number)
        elif self.alias(PREVIOUS):
            self.client.delete_registered_model_alias(self.name, PREVIOUS)

    def log(self) -> list[Event]:
        """Every promotion and rollback, newest first."""
        query = (
            f"tags.`discern.kind` = 'promotion' and tags.model = '{self.name}' and attributes.status = 'FINISHED'"
        )
        runs = self.client.search_runs([self._experiment], query, order_by=["attributes.start_time DESC"])
        keys = ("action", "version", "replaced", "author", "reason")
        return [
            Event(
                when=pd.Timestamp(run.info.start_time, unit="ms", tz="UTC"),
                **{key: run.data.tags.get(key, "") for key in keys},
            )
            for run in runs
        ]

    @contextmanager
    def _run(self, name: str, kind: str) -> Iterator[str]:
        tags = {**self._target.tags, "discern.kind": kind}
        with mlflow.start_run(experiment_id=self._experiment, run_name=name, tags=tags) as run:
            yield str(run.info.run_id)


def signature(labelled: bool) -> ModelSignature:
    """Encoded pictures in; embedding, neighbours and, with labels, class and score out."""
    classes = [ColSpec(DataType.string, "label"), ColSpec(DataType.double, "score")] if labelled else []
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(Array(DataType.double), "embedding"),
        *classes,
        ColSpec(Array(DataType.string), "neighbours"),
        ColSpec(Array(DataType.double), "similarities"),
    ]
    neighbours = ParamSpec("neighbours", DataType.long, NEIGHBOURS)
    return ModelSignature(Schema([ColSpec(DataType.binary, "image")]), Schema(outputs), ParamSchema([neighbours]))


def _example(folder: Path) -> pd.DataFrame:
    """One picture as a caller sends it."""
    with np.load(folder / "examples.npz", allow_pickle=False) as examples:
        picture = Image.fromarray(examples["images"][0])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return pd.DataFrame({"image": [buffer.getvalue()]})


@contextmanager
def _answers(uri: str) -> Iterator[None]:
    """MLflow's long story of a dead server as one line."""
    try:
        yield
    except MlflowException as error:
        raise RegistryError(f"MLflow: {provenance.redacted(str(error), uri)}") from error
