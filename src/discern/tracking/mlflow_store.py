"""Runs in MLflow: one of a stage, and the parent run of its pipeline."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from filelock import FileLock
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient

from discern.settings import silence_telemetry

MAX_METRICS = 1000  # points in one log_batch, MLflow's limit
MAX_PARAMS = 100  # parameters or tags in one log_batch, MLflow's limit

_STAGE_TAGS = {"dvc.stage", "dvc.lock.md5", "mlflow.source.name"}  # true of one stage, not of its pipeline
_CLOSED = "discern.closed"  # the parent's status, as a scheduler gave it

Point = tuple[str, float, int, int]  # key, value, milliseconds since 1970, step


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


class PipelineRun:
    """The parent run of a pipeline, found or made; hold the target's lock for all that is done with it.

    Two processes that create the same database at once crash each other, and both would make a parent.

    Raises:
        MlflowException: the server does not answer or the database cannot be used.
    """

    def __init__(self, target: Target) -> None:
        silence_telemetry()  # MLflow asks at every request how long it may take
        self.client = MlflowClient(tracking_uri=target.uri)
        self.experiment = experiment_id(self.client, target)
        query = f"tags.`pipeline.id` = '{target.pipeline}' and tags.`discern.kind` = 'pipeline'"
        self._run = find_run(self.client, self.experiment, query) or self._make(target)
        self.run_id = str(self._run.info.run_id)

    def _make(self, target: Target) -> Run:
        tags = {
            **{key: value for key, value in target.tags.items() if key not in _STAGE_TAGS},
            "mlflow.runName": target.parent_name,
            "discern.kind": "pipeline",
            "pipeline.id": target.pipeline,
        }
        return self.client.create_run(self.experiment, start_time=target.started, tags=tags)

    def go_on(self) -> None:
        """A stage runs: so does the pipeline, unless a scheduler has said how it ended."""
        if _CLOSED not in self._run.data.tags:
            self.client.update_run(self.run_id, status="RUNNING")

    def close(self, status: str, reused: dict[str, str]) -> None:
        """Give the final status, as a scheduler knows it."""
        self.client.set_tag(self.run_id, _CLOSED, status)
        self.update(reused)

    def update(self, reused: dict[str, str]) -> None:
        """Take the status of the stages, and link to the runs whose results were reused.

        Where a scheduler has said how the pipeline ended, that stays: a record that comes late must not undo it.

        Args:
            reused: stage id → run of the results that this pipeline took from the cache.
        """
        children = self.client.search_runs(
            [self.experiment],
            filter_string=f"tags.`mlflow.parentRunId` = '{self.run_id}'",
            order_by=["attributes.start_time ASC"],
            max_results=10_000,
        )
        # A stage that was retried counts by its last try.
        last = {str(run.data.tags["mlflow.runName"]): str(run.info.status) for run in children}
        present = self.client.get_run(self.run_id).data.tags
        for stage in last:
            if _tag_name(stage) in present:
                self.client.delete_tag(self.run_id, _tag_name(stage))
        for stage, run_id in reused.items():
            if stage not in last:
                self.client.set_tag(self.run_id, _tag_name(stage), run_id)
        states = set(last.values())
        if "RUNNING" in states and _CLOSED not in present:
            self.client.update_run(self.run_id, status="RUNNING")
        else:
            worst = next((status for status in ("FAILED", "KILLED") if status in states), "FINISHED")
            self.client.set_terminated(self.run_id, present.get(_CLOSED, worst))


class StageRun:
    """A running MLflow run of one stage, child of the run of its pipeline."""

    def __init__(self, target: Target) -> None:
        """Find or make database, experiment and parent; start the run.

        Raises:
            MlflowException: the server does not answer or the database cannot be used.
        """
        self._target = target
        with target.lock:
            self._parent = PipelineRun(target)
            self._client = self._parent.client
            self.parent_id = self._parent.run_id
            tags = {
                **target.tags,
                "mlflow.parentRunId": self.parent_id,
                "mlflow.runName": target.stage,
                "discern.kind": "stage",
                "pipeline.id": target.pipeline,
                "discern.record": target.record,
            }
            query = f"tags.`discern.record` = '{target.record}'"
            run = find_run(self._client, self._parent.experiment, query) if target.record else None
            run = run or self._client.create_run(self._parent.experiment, start_time=target.started, tags=tags)
            self.run_id = str(run.info.run_id)
            self._parent.go_on()

    def params(self, flat: dict[str, str], every: dict[str, str]) -> None:
        """Log parameters: `flat` is what this stage uses, `every` what the whole pipeline was given."""
        known = self._client.get_run(self.parent_id).data.params
        # MLflow refuses to change a parameter; the first stage of the pipeline has said it.
        new = {key: value for key, value in every.items() if key not in known}
        for run_id, chosen in ((self.run_id, flat), (self.parent_id, new)):
            items = [Param(key, value) for key, value in chosen.items()]
            for i in range(0, len(items), MAX_PARAMS):
                self._client.log_batch(run_id, params=items[i : i + MAX_PARAMS])

    def metrics(self, points: Iterable[Point], of_pipeline: bool = False) -> None:
        """Log points."""
        items = [Metric(key, value, time, step) for key, value, time, step in points]
        for i in range(0, len(items), MAX_METRICS):
            self._client.log_batch(self._id(of_pipeline), metrics=items[i : i + MAX_METRICS])

    def tags(self, tags: dict[str, str]) -> None:
        """Set tags of this run."""
        self._client.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in tags.items()])

    def artifact(self, path: str, folder: str = "", of_pipeline: bool = False) -> None:
        """Copy a file or a folder to the artifacts."""
        log = self._client.log_artifacts if Path(path).is_dir() else self._client.log_artifact
        log(self._id(of_pipeline), path, folder or None)

    def dataset(self, path: str, name: str, digest: str, context: str) -> None:
        """Log a parquet table as the data set that the stage used."""
        import pandas as pd

        source = CodeDatasetSource({k: v for k, v in self._target.tags.items() if k.startswith("mlflow.source")})
        with warnings.catch_warnings():
            # Integer columns could not hold missing values at inference: no signature is inferred from these.
            warnings.simplefilter("ignore", UserWarning)
            data = from_pandas(pd.read_parquet(path), source=source, name=name, digest=digest)
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
            self._parent.update(reused)

    def _id(self, of_pipeline: bool) -> str:
        return self.parent_id if of_pipeline else self.run_id


def find_run(client: MlflowClient, experiment: str, query: str) -> Run | None:
    """The newest run that a filter finds, None where there is none."""
    return next(iter(client.search_runs([experiment], query, max_results=1)), None)


def experiment_id(client: MlflowClient, target: Target) -> str:
    """Id of the experiment, which is made where there is none; hold the target's lock."""
    if found := client.get_experiment_by_name(target.experiment):
        return str(found.experiment_id)
    # Without a location, MLflow would write artifacts under the working directory of whoever came first, for
    # ever: under `dvc exp run --temp` that is a folder which is deleted. A server knows its own place.
    local = not target.uri.startswith(("http://", "https://"))
    location = (target.home / "mlartifacts").as_uri() if local else None
    return str(client.create_experiment(target.experiment, artifact_location=location))


def _tag_name(stage: str) -> str:
    """The tag of the parent that links to a reused run; MLflow allows no @ in names."""
    return f"reused.{stage.replace('@', '/')}"
