"""Checkpoints under real faults: flipped bytes, torn files, full disks, kills, and files of foreign make."""

import contextlib
import hashlib
import logging
import os
import pickle
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from discern.errors import StorageError
from discern.training.checkpoint import Checkpoint, State

SMALL, LARGE = 10, 500_000  # numbers in a state: 40 bytes and 2 MB


def state(step: int, size: int = SMALL) -> State:
    return {"step": step, "weights": torch.full((size,), float(step)), "rows": [{"loss": 0.5, "knn": None}]}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "work" / "train-0")


def names(checkpoint: Checkpoint) -> list[str]:
    """Everything in the folder."""
    return sorted(path.name for path in checkpoint.folder.iterdir()) if checkpoint.folder.exists() else []


def test_a_state_comes_back_as_it_was(checkpoint: Checkpoint) -> None:
    assert checkpoint.load() is None
    saved = {
        "step": 7,
        "objective": {"weight": torch.randn(3, 4), "count": torch.tensor(5)},
        "optimizers": [{"state": {0: {"momentum_buffer": torch.randn(2)}}, "param_groups": [{"lr": 0.1}]}],
        "rows": [{"step": 7, "loss": 0.25, "knn": None}],
        "window": [{"loss": torch.tensor(float("inf"))}],
    }
    checkpoint.save(saved)
    loaded = Checkpoint(checkpoint.folder).load()
    torch.testing.assert_close(loaded, saved, rtol=0, atol=0)


def test_the_last_two_are_kept_and_the_newest_is_loaded(checkpoint: Checkpoint) -> None:
    for step in (8, 9, 10, 11, 100):
        checkpoint.save(state(step))
        loaded = checkpoint.load()
        assert loaded is not None
        assert loaded["step"] == step
    assert [name.partition("-")[0] for name in names(checkpoint)] == ["0000000011", "0000000100"]


def test_a_file_is_named_by_the_digest_of_its_content(checkpoint: Checkpoint) -> None:
    checkpoint.save(state(3))
    (path,) = checkpoint.files
    assert path.name == f"0000000003-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.pt"


def test_a_save_is_due_when_the_time_has_passed_since_the_last(checkpoint: Checkpoint) -> None:
    assert not Checkpoint(checkpoint.folder, every_s=1000).due()
    assert Checkpoint(checkpoint.folder, every_s=0).due()
    seldom = Checkpoint(checkpoint.folder, every_s=1000)
    seldom._last -= 1001
    assert seldom.due()
    seldom.save(state(1))
    assert not seldom.due()


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def tear(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def extend(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


DAMAGES = [flip_a_byte, tear, empty, extend]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_the_one_before_is_used(
    damage: Callable[[Path], None], checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        checkpoint.save(state(step))
    older, newest = checkpoint.files
    damage(newest)
    loaded = checkpoint.load()
    assert loaded is not None
    assert (loaded["step"], loaded["weights"].tolist()) == (1, [1.0] * SMALL)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{newest} is damaged" in record.getMessage()
    assert checkpoint.files == [older]


@pytest.mark.parametrize("damage", DAMAGES)
def test_where_all_are_damaged_the_run_starts_again(
    damage: Callable[[Path], None], checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        checkpoint.save(state(step))
    for path in checkpoint.files:
        damage(path)
    assert checkpoint.load() is None
    assert len(caplog.records) == 2
    assert names(checkpoint) == []
    checkpoint.save(state(1))
    assert len(checkpoint.files) == 1


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: the system's write fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = [(SMALL, 0), (SMALL, 1000), (LARGE, 0), (LARGE, 10_000), (LARGE, 1_000_000), (LARGE, 2_000_500)]


@pytest.mark.parametrize(("size", "room"), FULL)
def test_a_periodic_save_to_a_full_disk_warns_and_leaves_what_was_there(
    size: int, room: int, checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (3, 4):
        checkpoint.save(state(step, size))
    before = names(checkpoint)
    with full_disk(room):
        checkpoint.save(state(5, size))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    said = record.getMessage()
    assert "the checkpoint of step 5 cannot be written" in said
    assert "training goes on, step 4 is the last one kept" in said
    assert "\n" not in said
    assert names(checkpoint) == before
    loaded = checkpoint.load()
    assert loaded is not None
    assert (loaded["step"], loaded["weights"].unique().tolist()) == (4, [4.0])
    checkpoint.save(state(6, size))  # there is space again
    assert [int(path.name[:10]) for path in checkpoint.files] == [4, 6]


@pytest.mark.parametrize(("size", "room"), FULL)
@pytest.mark.parametrize("kept", [0, 4])
def test_a_final_save_to_a_full_disk_says_where_the_run_will_go_on(
    kept: int, size: int, room: int, checkpoint: Checkpoint
) -> None:
    if kept:
        checkpoint.save(state(kept, size))
    before = names(checkpoint)
    with (
        full_disk(room),
        pytest.raises(StorageError, match=rf"step 5 cannot .*; free space, .* goes on from step {kept}$"),
    ):
        checkpoint.save(state(5, size), final=True)
    assert names(checkpoint) == before


def test_a_folder_that_cannot_be_made_warns_and_stops_only_at_the_end(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.folder.parent.mkdir(parents=True)
    checkpoint.folder.write_text("a file where the folder should be")
    checkpoint.save(state(1))
    assert "File exists" in caplog.text
    with pytest.raises(StorageError, match="step 1 cannot be written"):
        checkpoint.save(state(1), final=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_keeps_what_is_there(
    checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint.save(state(1))
    checkpoint.folder.chmod(0o500)
    try:
        checkpoint.save(state(2))
        with pytest.raises(StorageError, match="goes on from step 1"):
            checkpoint.save(state(2), final=True)
    finally:
        checkpoint.folder.chmod(0o700)
    assert "step 1 is the last one kept" in caplog.text
    assert [int(path.name[:10]) for path in checkpoint.files] == [1]


class Foreign:
    """Makes a folder where it is unpickled without care."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


def test_a_foreign_object_is_refused_and_not_executed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Its digest is right, so that nothing but the unpickler stands between it and this process."""
    trace = tmp_path / "executed"
    checkpoint.save({**state(1), "foreign": Foreign(trace)})
    (path,) = checkpoint.files
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        checkpoint.load()
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the file would not have shown whether it was executed"


def test_discarding_removes_everything_even_what_is_not_there(checkpoint: Checkpoint) -> None:
    for step in (1, 2, 3):
        checkpoint.save(state(step))
    checkpoint.folder.joinpath(".new.pt.partial").write_bytes(b"left by a kill")
    checkpoint.discard()
    assert not checkpoint.folder.exists()
    assert checkpoint.folder.parent.exists()
    checkpoint.discard()
    assert checkpoint.load() is None


PROGRAM = """
from pathlib import Path
import torch
from discern.training.checkpoint import Checkpoint

checkpoint = Checkpoint(Path("run"))
before = checkpoint.load()
for step in range(before["step"] + 1 if before else 1, 10**9):
    checkpoint.save({"step": step, "weights": torch.full((1_000_000,), float(step))})
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process that saves 4 MB again and again is killed, three times; what it had saved before is there."""
    rng, start = random.Random(0), 0
    for _ in range(3):
        command = [sys.executable, "-c", PROGRAM]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = int(process.stdout.readline())
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
            told = max([told, *(int(line) for line in process.stdout if line.endswith("\n"))])
        checkpoint = Checkpoint(tmp_path / "run")
        loaded = checkpoint.load()
        assert loaded is not None
        assert start < told <= loaded["step"] <= told + 1
        assert loaded["weights"].tolist() == [float(loaded["step"])] * 1_000_000
        assert len(checkpoint.files) <= 3  # the last two, and one that was to be removed
        start = loaded["step"]
    assert not caplog.records  # none was damaged
