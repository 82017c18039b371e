"""Ending the MLflow run of a whole pipeline, for a scheduler that knows how the pipeline ended.

`python -m discern.tracking.pipeline ID STATUS STAGE…` names the stages that came from the cache and prints
`{"run_id": …, "url": …}`; url is null where MLflow is a database without a server.
"""

import json
import sys
import time
from pathlib import Path

from discern.settings import home, settings, silence_telemetry
from discern.tracking import provenance, run_record
from discern.workspace import Workspace


def close(pipeline: str, status: str, cached: list[str]) -> dict[str, str | None]:
    """Give the parent run its final status and links to the runs of cached stages.

    Args:
        pipeline: the id that DISCERN_PIPELINE gave to the stages.
        status: FINISHED, FAILED or KILLED.
        cached: ids of the stages whose results were reused.
    """
    from discern.tracking.mlflow_store import PipelineRun, Target

    workspace = Workspace(Path.cwd())
    origin = provenance.git_state(workspace.root) | provenance.dvc_state(workspace.root)
    target = Target(
        uri=settings().resolved_tracking_uri,
        experiment=settings().experiment,
        home=home(),
        pipeline=pipeline,
        stage="",
        parent_name=provenance.pipeline_name(origin),
        started=int(time.time() * 1000),
        tags=origin,
    )
    with target.lock:
        run = PipelineRun(target)
        run.close(status, run_record.reused(workspace, cached, pipeline))
    served = target.uri.startswith(("http://", "https://"))
    url = f"{target.uri.rstrip('/')}/#/experiments/{run.experiment}/runs/{run.run_id}" if served else None
    return {"run_id": run.run_id, "url": url}


if __name__ == "__main__":
    silence_telemetry()
    sys.stdout.write(json.dumps(close(sys.argv[1], sys.argv[2], sys.argv[3:])) + "\n")
