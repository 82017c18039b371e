"""Runs in MLflow: one of a stage, and the parent run of its pipeline."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from filelock import FileLock
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.tracking import MlflowClient

MAX_METRICS = 1000  # points in one log_batch, MLflow's limit
MAX_PARAMS = 100  # parameters or tags in one log_batch, MLflow's limit

_STAGE_TAGS = {"dvc.stage", "dvc.lock.md5", "mlflow.source.name"}  # true of one stage, not of its pipeline
_CLOSED = "discern.closed"  # the parent's status, as a scheduler gave it


@dataclass(frozen=True)
class Target:
    """Where a stage's run goes and what it is.

    Attributes:
        uri: MLflow tracking URI.
        experiment: its name.
        home: main checkout; artifacts of a local database and the lock lie under it.
        pipeline: id of the invocation, common to the children of one parent.
        stage: id of the stage, the run's name.
        parent_name: name for the parent, if it has to be made.
        started: start of the stage, milliseconds since 1970.
        record: id of the stage's record; a run that has it already is gone on with.
        tags: provenance of the run.
    """

    uri: str
    experiment: str
    home: Path
    pipeline: str
    stage: str
    parent_name: str
    started: int
    record: str = ""
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def lock(self) -> FileLock:
        """Held while a database, an experiment or a parent is looked up and made, and for its status."""
        folder = self.home / ".discern"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / "mlflow.lock")


class StageRun:
    """A running MLflow run of one stage, child of the run of its pipeline."""

    def __init__(self, target: Target) -> None:
        """Find or make database, experiment and parent; start the run.

        Raises:
            MlflowException: the server does not answer or the database cannot be used.
        """
        self._target = target
        # Two processes that create the same database at once crash each other, and both would make a parent.
        with target.lock:
            self._client = MlflowClient(tracking_uri=target.uri)
            self._experiment = experiment_id(self._client, target)
            self.parent_id = _parent_id(self._client, self._experiment, target)
            tags = {
                **target.tags,
                "mlflow.parentRunId": self.parent_id,
                "mlflow.runName": target.stage,
                "discern.kind": "stage",
                "pipeline.id": target.pipeline,
                "discern.record": target.record,
            }
            query = f"tags.`discern.record` = '{target.record}'"
            found = self._client.search_runs([self._experiment], query, max_results=1) if target.record else []
            run = found[0] if found else None
            if run is None:
                run = self._client.create_run(self._experiment, start_time=target.started, tags=tags)
            self.run_id = str(run.info.run_id)
            self._client.update_run(self.parent_id, status="RUNNING")

    def params(self, flat: dict[str, str], every: dict[str, str]) -> None:
        """Log parameters: `flat` is what this stage uses, `every` what the whole pipeline was given."""
        self._log_params(self.run_id, flat)
        known = self._client.get_run(self.parent_id).data.params
        # MLflow refuses to change a parameter; the first stage of the pipeline has said it.
        self._log_params(self.parent_id, {key: value for key, value in every.items() if key not in known})

    def _log_params(self, run_id: str, flat: dict[str, str]) -> None:
        items = [Param(key, value) for key, value in flat.items()]
        for i in range(0, len(items), MAX_PARAMS):
            self._client.log_batch(run_id, params=items[i : i + MAX_PARAMS])

    def metrics(self, points: list[tuple[str, float, int, int]], of_pipeline: bool = False) -> None:
        """Log points of (key, value, milliseconds since 1970, step)."""
        run_id = self.parent_id if of_pipeline else self.run_id
        items = [Metric(key, value, time, step) for key, value, time, step in points]
        for i in range(0, len(items), MAX_METRICS):
            self._client.log_batch(run_id, metrics=items[i : i + MAX_METRICS])

    def artifact(self, path: Path, folder: str = "", of_pipeline: bool = False) -> None:
        """Copy a file or a folder to the artifacts."""
        run_id = self.parent_id if of_pipeline else self.run_id
        if path.is_dir():
            self._client.log_artifacts(run_id, str(path), folder or None)
        else:
            self._client.log_artifact(run_id, str(path), folder or None)

    def text(self, text: str, name: str) -> None:
        """Write an artifact called `name`."""
        self._client.log_text(self.run_id, text, name)

    def dataset(self, table: Path, name: str, digest: str, context: str) -> None:
        """Log a parquet table as the data set that the stage used."""
        import pandas as pd

        source = CodeDatasetSource({k: v for k, v in self._target.tags.items() if k.startswith("mlflow.source")})
        with warnings.catch_warnings():
            # Integer columns could not hold missing values at inference: no signature is inferred from these.
            warnings.simplefilter("ignore", UserWarning)
            data = from_pandas(pd.read_parquet(table), source=source, name=name, digest=digest)
            entity = cast(Any, data)._to_mlflow_entity()  # the fluent API's own way; it has no client method
        entry = DatasetInput(entity, [InputTag("mlflow.data.context", context)])
        self._client.log_inputs(self.run_id, [entry])

    def finish(self, status: str, tags: dict[str, str], reused: dict[str, str]) -> None:
        """End the run and bring the parent up to date.

        Args:
            status: FINISHED, FAILED or KILLED.
            tags: what is known only at the end, e.g. the device.
            reused: stage id → run of the results that this pipeline took from the cache.
        """
        self._client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in tags.items()])
        self._client.set_terminated(self.run_id, status)
        with self._target.lock:
            update_parent(self._client, self._experiment, self.parent_id, reused)


def close_pipeline(target: Target, status: str, reused: dict[str, str]) -> tuple[str, str]:
    """Give the parent run its final status; make it where every stage came from the cache.

    Returns:
        Experiment id and run id of the parent.
    """
    with target.lock:
        client = MlflowClient(tracking_uri=target.uri)
        experiment = experiment_id(client, target)
        parent = _parent_id(client, experiment, target)
        client.set_tag(parent, _CLOSED, status)
        update_parent(client, experiment, parent, reused)
    return experiment, parent


def tag_name(stage: str) -> str:
    """The tag of the parent that links to a reused run; MLflow allows no @ in names."""
    return f"reused.{stage.replace('@', '/')}"


def update_parent(client: MlflowClient, experiment: str, parent_id: str, reused: dict[str, str]) -> None:
    """Give the parent the status of its stages, and links to the runs whose results it reused.

    Where a scheduler has said how the pipeline ended, that stays: a record that comes late must not undo it.
    """
    children = client.search_runs(
        [experiment],
        filter_string=f"tags.`mlflow.parentRunId` = '{parent_id}'",
        order_by=["attributes.start_time ASC"],
        max_results=10_000,
    )
    # A stage that was retried counts by its last try.
    last = {str(run.data.tags["mlflow.runName"]): str(run.info.status) for run in children}
    present = client.get_run(parent_id).data.tags
    for stage in last:
        if tag_name(stage) in present:
            client.delete_tag(parent_id, tag_name(stage))
    for stage, run_id in reused.items():
        if stage not in last:
            client.set_tag(parent_id, tag_name(stage), run_id)
    states = set(last.values())
    if closed := present.get(_CLOSED):
        client.set_terminated(parent_id, closed)
    elif "RUNNING" in states:
        client.update_run(parent_id, status="RUNNING")
    else:
        worst = next((s for s in ("FAILED", "KILLED") if s in states), "FINISHED")
        client.set_terminated(parent_id, worst)


def _parent_id(client: MlflowClient, experiment: str, target: Target) -> str:
    query = f"tags.`pipeline.id` = '{target.pipeline}' and tags.`discern.kind` = 'pipeline'"
    if found := client.search_runs([experiment], filter_string=query, max_results=1):
        return str(found[0].info.run_id)
    tags = {
        **{key: value for key, value in target.tags.items() if key not in _STAGE_TAGS},
        "mlflow.runName": target.parent_name,
        "discern.kind": "pipeline",
        "pipeline.id": target.pipeline,
    }
    return str(client.create_run(experiment, start_time=target.started, tags=tags).info.run_id)


def experiment_id(client: MlflowClient, target: Target) -> str:
    """Id of the experiment, which is made where there is none; hold the target's lock."""
    if found := client.get_experiment_by_name(target.experiment):
        return str(found.experiment_id)
    # Without a location, MLflow would write artifacts under the working directory of whoever came first, for
    # ever: under `dvc exp run --temp` that is a folder which is deleted. A server knows its own place.
    local = not target.uri.startswith(("http://", "https://"))
    location = (target.home / "mlartifacts").as_uri() if local else None
    return str(client.create_experiment(target.experiment, artifact_location=location))
