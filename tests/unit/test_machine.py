"""What a process claims of the machine: threads, and memory that it keeps."""

import os
import subprocess
import sys

import pytest

from discern import machine
from discern.settings import settings

FAULTS = """
import resource, sys
if sys.argv[1] == "claimed":
    from discern.machine import claim
    claim()
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.empty(10_000_000).fill_(1.0)  # larger than glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_large_blocks_are_kept_and_not_taken_anew_every_time() -> None:
    env = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"}
    plain, claimed = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], env=env, capture_output=True, check=True).stdout)
        for how in ("plain", "claimed")
    )
    assert plain > 20_000  # 20 times 40 MB in pages of 4 KiB are 195,000
    assert claimed < plain / 20


@pytest.mark.parametrize(("processes", "threads"), [(1, "6"), (2, "3"), (4, "1"), (8, "1")])
def test_processes_share_the_threads_and_sleep_while_they_wait(
    processes: int, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISCERN_THREADS", "6")
    settings.cache_clear()
    try:
        env = machine.shared_environment(processes)
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert {env[name] for name in machine.THREADS} == {threads}
    assert env["OMP_WAIT_POLICY"] == "PASSIVE"
    assert env["PATH"] == os.environ["PATH"]


def test_a_setting_that_cannot_be_is_told_in_one_line() -> None:
    env = {**os.environ, "DISCERN_COMPILE": "fast", "DISCERN_PROCESSES": "0"}
    done = subprocess.run([sys.executable, "-m", "discern.run", "report"], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("discern: ERROR DISCERN_PROCESSES = '0': ")
    assert "DISCERN_COMPILE = 'fast': " in line
