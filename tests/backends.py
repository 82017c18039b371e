"""The tests that meet MLflow, Prefect and DVC, again on PostgreSQL, S3 and Dask: `make backends`.

Needs Debian's postgresql, and what `make backends` installs beside the lock. Everything listens on 127.0.0.1 and
is gone afterwards. Arguments are passed on to pytest.
"""

import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

TESTS = ["tests/pipeline/test_pipeline.py", "tests/pipeline/test_registry.py", "tests/pipeline/test_remote.py"]
FLOWS = ["tests/flows"]
KEYS = {
    "AWS_ACCESS_KEY_ID": "tester",
    "AWS_SECRET_ACCESS_KEY": secrets.token_hex(),
    "AWS_DEFAULT_REGION": "us-east-1",
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(command: list[str], url: str, env: dict[str, str], log: Path) -> Iterator[None]:
    """A server that answers at `url`, for as long as the block runs."""
    with log.open("w") as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit(f"{command[2]} did not start:\n{log.read_text()[-3000:]}") from None
                time.sleep(0.3)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """PostgreSQL with the databases mlflow and prefect; yields user:password@host:port."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise SystemExit("PostgreSQL is not there: install Debian's package postgresql")
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name  # it refuses to run as root
    password, port, data = secrets.token_hex(), free_port(), folder / "postgres"
    data.mkdir()
    (folder / "password").write_text(password)
    for path in (folder, data, folder / "password"):
        shutil.chown(path, user)

    def do(program: str, *options: str, **env: str) -> None:
        command = [str(found[-1] / program), *options]
        subprocess.run(
            command, check=True, user=user, cwd=folder, env={**os.environ, **env}, stdout=subprocess.DEVNULL
        )

    do("initdb", "-D", str(data), "-U", "discern", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
    listen = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={data}"
    do("pg_ctl", "-D", str(data), "-w", "-l", str(data / "log"), "-o", listen, "start")
    try:
        for name in ("mlflow", "prefect"):
            do("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "discern", name, PGPASSWORD=password)
        yield f"discern:{password}@127.0.0.1:{port}"
    finally:
        do("pg_ctl", "-D", str(data), "-m", "fast", "stop")


def make_buckets(url: str, *names: str) -> None:
    """Empty buckets in the store."""
    import boto3

    client = boto3.client("s3", endpoint_url=url, aws_access_key_id="tester", aws_secret_access_key="tester")
    for name in names:
        client.create_bucket(Bucket=name)


def main() -> int:
    """Start the servers, run the tests, stop the servers."""
    options = sys.argv[1:]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store, mlflow = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        database = stack.enter_context(postgres(folder))
        secret = {**KEYS, "AWS_ENDPOINT_URL": store, "MLFLOW_S3_ENDPOINT_URL": store}
        env = {**os.environ, **secret, "DO_NOT_TRACK": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        python = [sys.executable, "-m"]
        moto = [*python, "moto.server", "-H", "127.0.0.1", "-p", store.rpartition(":")[2]]
        stack.enter_context(server(moto, store, env, folder / "moto.log"))
        make_buckets(store, "mlflow", "dvc")
        where = ["--host", "127.0.0.1", "--port", mlflow.rpartition(":")[2], "--workers", "1"]
        keep = ["--backend-store-uri", f"postgresql://{database}/mlflow", "--artifacts-destination", "s3://mlflow"]
        stack.enter_context(
            server([*python, "mlflow", "server", *where, *keep], f"{mlflow}/health", env, folder / "mlflow.log")
        )
        backends = {**secret, "DISCERN_TRACKING_URI": mlflow}
        flows = {
            "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{database}/prefect",
            "DISCERN_DASK": "local",
        }
        env |= {"TEST_BACKENDS": json.dumps(backends), "TEST_REMOTE": "s3://dvc/tests"}
        env |= {"TEST_FLOWS": json.dumps(flows)}
        return subprocess.run(
            [*python, "pytest", "-rs", *(options or TESTS + FLOWS)], env=env, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
