"""Rows from memory and from the file are the same, files do not fill memory, and reading ahead keeps its order."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray

from discern.errors import DataError
from discern.images.loading import AHEAD, Budget, ImageStore, ReadAhead
from discern.settings import settings

CPU = torch.device("cpu")
Images = NDArray[np.uint8]


@pytest.fixture
def pairs(tmp_path: Path) -> Images:
    """A map of 12 images with two copies each."""
    array = np.random.default_rng(0).integers(0, 256, (12, 2, 5, 5, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", array)
    mapped: Images = np.load(tmp_path / "images.npy", mmap_mode="r")
    return mapped


VIEWS: dict[str, Callable[[Images], Images]] = {
    "a map": lambda a: a,
    "a map, reshaped": lambda a: a.reshape(-1, 5, 5, 3),
    "the whole of a map": lambda a: a[:],
    "a slice": lambda a: a[3:9],
    "a slice, reshaped": lambda a: a[3:9].reshape(-1, 5, 5, 3),
    "a slice of what was reshaped": lambda a: a.reshape(-1, 5, 5, 3)[5:11],
    "every other image": lambda a: a[::2],
    "images in reverse": lambda a: a[::-1],
    "mirrored images": lambda a: a[:, :, :, ::-1],
    "columns before rows": lambda a: a.transpose(0, 1, 3, 2, 4),
    "without the map's type": lambda a: np.asarray(a),
    "a slice without the map's type": lambda a: np.asarray(a)[4:],
    "an array in memory": lambda a: np.array(a),
    "a slice of an array in memory": lambda a: np.array(a)[4:],
    "a copy of a map": lambda a: a.copy(),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_resident_and_read_rows_are_those_of_the_array(view: Callable[[Images], Images], pairs: Images) -> None:
    array = view(pairs)
    rows = torch.tensor([len(array) - 1, 0, 2, 2, len(array) // 2])
    resident, read = ImageStore(array, CPU, Budget(array.nbytes)), ImageStore(array, CPU, Budget(0))
    assert (resident.resident, read.resident) == (True, False)
    assert len(resident) == len(read) == len(array)
    for images in (resident.take(rows), read.take(rows)):
        assert images.dtype == torch.uint8
        assert np.array_equal(images.numpy(), np.array(array)[rows.numpy()])


def test_what_is_taken_belongs_to_the_taker(pairs: Images) -> None:
    for store in (ImageStore(pairs, CPU, Budget(2**20)), ImageStore(pairs, CPU, Budget(0))):
        rows = torch.arange(len(pairs))
        store.take(rows).zero_()
        assert np.array_equal(store.take(rows).numpy(), np.array(pairs))


def test_a_budget_is_claimed_until_nothing_is_left() -> None:
    budget = Budget(100)
    resident = [ImageStore(np.zeros((size, 1), np.uint8), CPU, budget).resident for size in (60, 60, 40, 1)]
    assert resident == [True, False, True, False]
    assert budget.left == 0


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_budget_is_the_allowed_share_of_free_memory(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISCERN_RESIDENT_SHARE", str(share))
    settings.cache_clear()
    try:
        assert Budget.of(CPU).left == pytest.approx(share * psutil.virtual_memory().available, rel=0.3)
    finally:
        settings.cache_clear()


def test_a_file_that_is_cut_off_is_an_error_that_names_the_image(pairs: Images, tmp_path: Path) -> None:
    store = ImageStore(pairs, CPU, Budget(0))
    path = tmp_path / "images.npy"
    os.truncate(path, path.stat().st_size - 1)
    assert store.take(torch.tensor([10])).shape == (1, 2, 5, 5, 3)
    with pytest.raises(DataError, match=r"images\.npy: image 11 is cut off; run `dvc repro -f pack`"):
        store.take(torch.tensor([3, 11]))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much of a map is in memory")
def test_reading_from_a_file_leaves_no_trace_of_its_size_in_memory(tmp_path: Path) -> None:
    """All of 2,000 images of 98,304 bytes, 197 MB, are read, and then, to compare, seen through the map."""
    program = """
import numpy as np, psutil, torch
from discern.images.loading import Budget, ImageStore

np.lib.format.open_memmap("images.npy", "w+", np.uint8, (1000, 2, 128, 256, 3)).flush()
array = np.load("images.npy", mmap_mode="r").reshape(-1, 128, 256, 3)
process = psutil.Process()
images = ImageStore(array, torch.device("cpu"), Budget(0))
order = torch.randperm(2000).split(20)
for rows in order[:20]:
    images.take(rows)  # buffers that the allocator keeps, whatever the number of images

def held():
    return sum(part.rss for part in process.memory_maps() if part.path.endswith("images.npy"))

before = process.memory_info().rss
for rows in order[20:]:
    images.take(rows)
print(process.memory_info().rss - before, held())
for rows in order:
    array[rows.numpy()].sum()
print(process.memory_info().rss - before, held())
"""
    run = [sys.executable, "-c", program]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=True)
    (read, held), (mapped, held_mapped) = (map(int, line.split()) for line in done.stdout.splitlines())
    size = (tmp_path / "images.npy").stat().st_size
    assert size > 190_000_000
    assert read < 0.1 * size
    assert held < 1_000_000
    assert min(mapped, held_mapped) > 0.9 * size, "the measurement would not see a map that fills memory"


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("numbers", [range(0), range(1), range(AHEAD), range(7, 20)], ids=str)
def test_items_come_in_order_and_each_once(numbers: range, enabled: bool) -> None:
    made: list[int] = []

    def prepare(number: int) -> str:
        time.sleep(0.002 * (number % 3))
        made.append(number)
        return f"item {number}"

    assert list(ReadAhead(prepare, numbers, enabled)) == [f"item {number}" for number in numbers]
    assert made == list(numbers)
    assert not reading()


def reading() -> list[threading.Thread]:
    """Threads that read ahead at this moment."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_items_are_made_ahead_in_a_thread_but_not_without_end() -> None:
    made: list[int] = []
    threads = set()

    def prepare(number: int) -> int:
        threads.add(threading.current_thread().name)
        made.append(number)
        return number

    items = iter(ReadAhead(prepare, range(100), enabled=True))
    assert [next(items), next(items)] == [0, 1]
    deadline = time.monotonic() + 10
    while len(made) < 2 + AHEAD and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == list(range(2 + AHEAD))
    assert threads == {"read-ahead_0"}


def test_without_a_thread_an_item_is_made_when_it_is_asked_for() -> None:
    made: list[tuple[int, threading.Thread]] = []
    items = iter(ReadAhead(lambda number: made.append((number, threading.current_thread())), range(9), False))
    next(items)
    next(items)
    assert made == [(0, threading.main_thread()), (1, threading.main_thread())]


@pytest.mark.parametrize("enabled", [True, False])
def test_an_error_of_the_preparation_reaches_the_consumer_after_the_items_before_it(enabled: bool) -> None:
    def prepare(number: int) -> int:
        if number == 3:
            raise DataError("image 3 is cut off")
        return number

    seen: list[int] = []
    with pytest.raises(DataError, match="image 3 is cut off"):
        seen.extend(ReadAhead(prepare, range(100), enabled))
    assert seen == [0, 1, 2]
    assert not reading()


def test_breaking_off_stops_the_thread_and_what_was_to_come() -> None:
    made: list[int] = []

    def prepare(number: int) -> int:
        made.append(number)
        time.sleep(0.01)
        return number

    def consume() -> None:
        for item in ReadAhead(prepare, range(1000), enabled=True):
            if item == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert not reading()
    count = len(made)
    assert count <= 5 + AHEAD
    time.sleep(0.05)
    assert len(made) == count


def waited(enabled: bool, preparing: float, computing: float) -> float:
    """Seconds that a consumer of 10 items waited."""
    items = ReadAhead(lambda number: time.sleep(preparing), range(10), enabled)
    for _ in items:
        time.sleep(computing)
    return items.waited


def test_the_time_waited_for_items_is_counted() -> None:
    assert waited(True, preparing=0.02, computing=0) > 0.15
    assert waited(False, preparing=0.02, computing=0) > 0.19
    assert waited(False, preparing=0, computing=0.02) < waited(False, preparing=0.02, computing=0)


def test_preparation_that_is_faster_than_the_step_is_hardly_waited_for() -> None:
    without = waited(False, preparing=0.02, computing=0.05)
    assert without > 0.19
    assert waited(True, preparing=0.02, computing=0.05) < without
