"""A failed run is told to whoever asked for it."""

import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import wait_until

NOTIFY = [sys.executable, "-m", "flows.notify", "custom-webhook/team"]
BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock as Webhook
message = {"subject": "{{subject}}", "body": "{{body}}"}
Webhook(name="team", url=sys.argv[1], json_data=message).save("team", overwrite=True)
"""


@pytest.fixture
def inbox() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Address of a webhook, and what it got."""
    got: list[dict[str, Any]] = []

    class Webhook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", got
        server.shutdown()


def test_a_failed_run_is_told(
    checkout: Path, prefect_env: dict[str, str], inbox: tuple[str, list[dict[str, Any]]]
) -> None:
    address, got = inbox

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        env = prefect_env | {"DISCERN_TRACKING": "false"}
        return subprocess.run(
            command, cwd=checkout, env=env, capture_output=True, text=True, check=False, timeout=900
        )

    missing = run(*NOTIFY[:-1], "custom-webhook/nobody")
    assert missing.returncode == 2
    assert "custom-webhook/nobody: no such block" in missing.stderr
    assert run(sys.executable, "-c", BLOCK, address).returncode == 0
    for _ in range(2):  # a second time replaces the first
        made = run(*NOTIFY)
        assert made.stdout.splitlines() == ["discern: a run ended badly", "discern: nothing heard"], made.stderr
    (checkout / "draw.py").write_text("import sys\nsys.exit('no paper')\n")
    assert run(sys.executable, "-m", "flows.pipeline", "--target", "draw").returncode == 1
    wait_until(lambda: got)
    time.sleep(2)
    (message,) = got
    assert message["subject"] == "discern: Failed"
    assert message["body"].startswith("pipeline ")
    assert "stage draw failed" in message["body"]
