"""What the project is built on: pinned by checksum, consistent, and without known vulnerabilities."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = [ROOT / "requirements.lock", ROOT / "bootstrap.lock"]
# Known, looked at, and no way into this project: id → why.
ACCEPTED: dict[str, str] = {}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_library_is_pinned_by_checksum_and_no_registry_is_named(lock: Path) -> None:
    text = lock.read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"\n(?=\S)", text.replace("\\\n", " ")) if entry.strip()]
    assert entries
    assert [entry for entry in entries if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry)] == []
    assert "://" not in text


def test_the_installed_libraries_agree_with_each_other() -> None:
    done = subprocess.run(["uv", "pip", "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_no_known_vulnerabilities(lock: Path) -> None:
    # --disable-pip: the lock has every library and checksum, so nothing needs to be resolved or installed.
    command = ["-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner=off", "--format=json"]
    done = subprocess.run(
        [sys.executable, *command, "--timeout=20", "-r", str(lock)], capture_output=True, text=True, check=False
    )
    try:
        found = json.loads(done.stdout)["dependencies"]
    except ValueError:
        pytest.skip("the vulnerability service does not answer: nothing was audited")
    audited = [library for library in found if "vulns" in library]
    if not audited:
        pytest.skip("the vulnerability service knows none of the libraries: nothing was audited")
    assert [library["name"] for library in found if "vulns" not in library] == [], "not audited"
    vulnerable = {
        f"{library['name']} {library['version']}: {known['id']}, fixed in {known['fix_versions']}"
        for library in audited
        for known in library["vulns"]
        if known["id"] not in ACCEPTED
    }
    assert vulnerable == set()
