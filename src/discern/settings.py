"""Where things run: environment variables and `.env`, never params.yaml.

What changes a result is a parameter; what only changes where it is made is a setting. Mixing them would
make moving to another machine invalidate the cache.
"""

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from discern.errors import SettingsError

# Tools of the stack phone home, talk or wait for minutes unless told not to.
TOOLS = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GIT_PYTHON_REFRESH": "quiet",
    # A dead server must cost seconds, not the 12 minutes of MLflow's own defaults (seven retries of 120 s).
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    # Without a server running, Prefect starts one of its own, which takes 15-21 s against a limit of 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}


def silence_telemetry() -> None:
    """Keep the tools in this process and its children quiet and impatient; a value already set stays.

    Every program of the project calls this first: some of the tools read their part when they are imported.
    """
    for name, value in TOOLS.items():
        os.environ.setdefault(name, value)


def home() -> Path:
    """The main checkout: where records and checkpoints live.

    `dvc exp run --temp` and `--queue` work in a folder that is deleted afterwards, but DVC_ROOT still names
    the main checkout, so nothing that has to outlive the run may go anywhere else.
    """
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


class Settings(BaseSettings):
    """Settings of this machine; each is an environment variable with the prefix `DISCERN_`."""

    model_config = SettingsConfigDict(env_prefix="DISCERN_", env_file=".env", extra="ignore")

    tracking_uri: str | None = Field(None, description="MLflow server or database; default mlflow.db here")
    experiment: str = Field("discern", description="MLflow experiment")
    tracking: bool = Field(True, description="false: keep no MLflow record")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:N")
    emulate_bf16: bool = Field(
        False, description="true: bf16 stays bf16 on processors without instructions for it, and takes hours"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: as many as this process may use")
    processes: int = Field(1, ge=1, description="processes of a training stage on this machine, one GPU each")
    compile: str = Field(
        "none",
        pattern=r"^(none|default|graphs)$",
        description="torch.compile of the encoder; graphs: with CUDA graphs",
    )
    resident_share: float = Field(
        0.25,
        ge=0,
        le=1,
        description="of free device memory, for training images; larger sets are read from disk",
    )
    offline: bool = Field(False, description="never open a connection; archives must lie in .discern/downloads")
    progress: str = Field(
        "auto",
        pattern=r"^(auto|lines|none)$",
        description="auto: a bar on a terminal; lines: for log readers",
    )
    checkpoint_seconds: float = Field(60.0, ge=0, description="between periodic checkpoints of a training run")
    workers: int = Field(1, ge=1, description="stages that a flow runs side by side")
    dask: str | None = Field(None, description="address of a Dask cluster for the flows, or `local`")
    pipeline: str | None = Field(None, description="id of the pipeline run that started this stage")

    @property
    def resolved_tracking_uri(self) -> str:
        """The tracking URI, with the default database under the main checkout."""
        return self.tracking_uri or f"sqlite:///{home() / 'mlflow.db'}"


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        SettingsError: one of them cannot be.
    """
    try:
        return Settings()
    except ValidationError as error:
        problems = (f"DISCERN_{str(p['loc'][0]).upper()} = {p['input']!r}: {p['msg']}" for p in error.errors())
        raise SettingsError("; ".join(problems)) from error
