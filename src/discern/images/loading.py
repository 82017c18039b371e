"""Training images where the step needs them: resident on the device, or read ahead from the packed file."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.errors import DataError
from discern.settings import settings

Item = TypeVar("Item")
AHEAD = 2  # batches read before they are asked for


@dataclass
class Budget:
    """Device memory that training images may still fill.

    Attributes:
        left: in bytes.
    """

    left: int

    @classmethod
    def of(cls, device: torch.device) -> "Budget":
        """The share of the device's free memory that the settings allow."""
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
        return cls(int(settings().resident_share * free))

    def claim(self, size: int) -> bool:
        """Take `size` bytes if there are as many."""
        if size > self.left:
            return False
        self.left -= size
        return True


class ImageStore:
    """Rows of a uint8 array, resident on the device where the budget allows it.

    A row that is not resident is read from its file by position, never through a memory map: its pages count as
    memory of this process and grow with the data set.

    Args:
        array: (images, ...) uint8, in memory or memory-mapped from an `.npy`.
        device: where the rows are wanted.
        budget: what is left of the device's memory; the array's size is taken from it.
    """

    def __init__(self, array: NDArray[np.uint8], device: torch.device, budget: Budget) -> None:
        self.array, self.device = array, device
        self._rows: Tensor | None = None
        if budget.claim(array.nbytes):
            self._rows = torch.from_numpy(np.array(array)).to(device)
        self._file: BufferedReader | None = None
        self._start = 0
        if self._rows is None and (place := _place_in_file(array)) is not None:
            path, self._start = place
            self._file = path.open("rb")  # open as long as the store lives

    @property
    def resident(self) -> bool:
        """Whether the rows lie on the device already."""
        return self._rows is not None

    def __len__(self) -> int:
        return len(self.array)

    def take(self, rows: Tensor) -> Tensor:
        """Rows (N, ...) of these numbers (N,), on the device."""
        if self._rows is not None:
            return self._rows[rows.to(self.device, non_blocking=True)]
        shape = (len(rows), *self.array.shape[1:])
        buffer = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        self._read(rows.cpu().numpy(), buffer.numpy())
        return buffer.to(self.device, non_blocking=True)

    def _read(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        if self._file is None:
            np.take(self.array, rows, axis=0, out=out)
            return
        size = out[0].nbytes
        for row, image in zip(rows.tolist(), out, strict=True):
            data = os.pread(self._file.fileno(), size, self._start + row * size)
            if len(data) != size:
                raise DataError(f"{self._file.name}: image {row} is cut off; run `dvc repro -f pack`")
            image.flat = np.frombuffer(data, np.uint8)


def _place_in_file(array: NDArray[np.uint8]) -> tuple[Path, int] | None:
    """File and position where the rows of `array` begin; None where they do not lie in a row in one file.

    A slice of a map keeps the offset of the whole: only its address tells where it begins.
    """
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not (isinstance(root, np.memmap) and root.filename and array.flags.c_contiguous):
        return None  # the copy of a map in memory is a `memmap` too, without a file
    return Path(str(root.filename)), root.offset + array.ctypes.data - root.ctypes.data


class ReadAhead(Generic[Item]):
    """Items by number, prepared in a thread while the device computes.

    Args:
        prepare: makes the item of a number; called in order. Copies to a GPU go into its default stream, which the
            step uses too: nothing has to wait for them.
        numbers: which, in order.
        enabled: False where there is nothing to wait for: items are made when they are asked for.

    Attributes:
        waited: seconds that the consumer waited for items.
    """

    def __init__(self, prepare: Callable[[int], Item], numbers: range, enabled: bool) -> None:
        self.waited = 0.0
        self._prepare, self._numbers, self._enabled = prepare, numbers, enabled

    def __iter__(self) -> Iterator[Item]:
        executor = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        waiting: deque[Future[Item]] = deque()
        try:
            for number in self._numbers:
                if not self._enabled:
                    yield self._timed(partial(self._prepare, number))
                    continue
                waiting.append(executor.submit(self._prepare, number))
                if len(waiting) > AHEAD:
                    yield self._timed(waiting.popleft().result)
            while waiting:
                yield self._timed(waiting.popleft().result)
        finally:
            executor.shutdown(cancel_futures=True)

    def _timed(self, make: Callable[[], Item]) -> Item:
        began = time.perf_counter()
        item = make()
        self.waited += time.perf_counter() - began
        return item
