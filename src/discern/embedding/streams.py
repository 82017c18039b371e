"""Reading and computing at the same time: several streams, each with batches of its own.

On a CPU, threads that share the work of one batch wait for each other at every layer, and for the decoder before
every batch. A stream is one thread that decodes a batch and computes it, alone: whatever another does meanwhile,
no core waits. On a GPU the streams decode, and take turns at the network.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from discern.data.progress import in_threads
from discern.machine import allowed_threads

# Each holds a batch and its activations: with more cores, a stream gets more of them.
LARGEST = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_streams(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The results of `function`, in the order of `items`, each computed in one of the streams.

    Args:
        function: decodes and computes a batch; called from several threads.
        items: taken two for each stream ahead.
    """
    streams = min(LARGEST, allowed_threads())
    threads, before = max(1, allowed_threads() // streams), torch.get_num_threads()
    try:
        yield from in_threads(
            function, items, streams, ahead=2 * streams, initializer=lambda: torch.set_num_threads(threads)
        )
    finally:
        # The number is each thread's own, but threads that come later start with the last one that was set.
        torch.set_num_threads(before)
