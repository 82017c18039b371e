"""One contestant in a process of its own, which takes as many training steps as it is told to.

`python -m benchmarks.contestants NAME SETTING` reads numbers of steps, one a line, and answers what they cost.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from benchmarks.setting import Setting

Step = Callable[[], object]


def ours(method: str, setting: Setting, bound: bool = False) -> Step:
    """Discern's own step, with its feed and its views.

    Args:
        method: simclr, moco, or `offline` or `online` pairs.
        setting: sizes.
        bound: the same step on one batch of finished views on the device: what computing alone costs.
    """
    os.environ["DISCERN_COMPILE"] = setting.compile
    from discern.machine import claim

    claim()  # before torch is imported

    import numpy as np
    import torch

    from benchmarks.objectives import build, parameters
    from discern.images.loading import Budget, ImageStore, ReadAhead
    from discern.training.device import make_deterministic
    from discern.training.distributed import World
    from discern.training.feed import Feed
    from discern.training.schedule import Plan
    from discern.training.step import TrainingStep

    make_deterministic(False)
    device = torch.device(setting.device)
    world, base = World(device), parameters(setting)
    memory = Budget(2**62 if setting.resident else 0)
    objective = build(method, setting, device)
    images = ImageStore(np.load(Path(setting.data) / "images.npy", mmap_mode="r"), device, memory)
    plan = Plan(setting.images, setting.batch, steps=10**6, passes=objective.passes)
    feed = Feed(images, plan, 0, objective.fetch, 0, 1, 1)
    step = TrainingStep(objective, base, setting.size, 0, setting.batch, world)
    if not bound:
        batches = iter(ReadAhead(feed, range(10**6), enabled=not images.resident))
        return lambda: step(next(batches))
    batch = feed(0)
    finished = [step.augment(batch.images, batch.index, 0, view) for view in (0, 1)]
    step.augment = lambda _images, _index, _epoch, view: finished[view]  # type: ignore[assignment]  # for once no Augment
    return lambda: step(batch)


def lightly_simclr(setting: Setting, tuned: bool) -> Step:
    """SimCLR from lightly's parts, put together as its documentation shows.

    Args:
        setting: sizes and loader processes.
        tuned: with bfloat16 autocast and channels-last memory, as a careful user would add; else float32.
    """
    import torch
    import torchvision
    from lightly.data import LightlyDataset
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms.simclr_transform import SimCLRTransform

    device = torch.device(setting.device)
    network = getattr(torchvision.models, setting.network)()
    dim = network.fc.in_features
    network.fc = torch.nn.Identity()
    model = torch.nn.Sequential(network, SimCLRProjectionHead(dim, dim, 128)).to(device).train()
    if tuned:
        model.to(memory_format=torch.channels_last)
        torch.backends.cudnn.benchmark = True
    dataset = LightlyDataset(
        str(Path(setting.data) / "photos"), transform=SimCLRTransform(input_size=setting.size)
    )
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=setting.batch, shuffle=True, drop_last=True, num_workers=setting.workers,
        persistent_workers=setting.workers > 0, pin_memory=tuned and device.type == "cuda",
    )  # fmt: skip
    criterion = NTXentLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06, momentum=0.9, weight_decay=5e-4)

    def batches() -> Iterator[Any]:
        while True:
            yield from loader

    stream = batches()

    def step() -> None:
        views = [view.to(device, non_blocking=tuned) for view in next(stream)[0][:2]]
        if tuned:
            views = [view.contiguous(memory_format=torch.channels_last) for view in views]
        with torch.autocast(device.type, torch.bfloat16, enabled=tuned):
            z0, z1 = model(views[0]), model(views[1])
        loss = criterion(z0.float(), z1.float())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


CONTESTANTS: dict[str, Callable[[Setting], Step]] = {
    "discern simclr": lambda s: ours("simclr", s),
    "discern moco": lambda s: ours("moco", s),
    "discern pairs, offline": lambda s: ours("offline", s),
    "discern pairs, online": lambda s: ours("online", s),
    "compute only": lambda s: ours("simclr", s, bound=True),
    "lightly, as documented": lambda s: lightly_simclr(s, tuned=False),
    "lightly, bf16 + channels_last": lambda s: lightly_simclr(s, tuned=True),
}


def serve(name: str, setting: Setting) -> None:
    """Answer requests for steps on standard input until it closes."""
    step = CONTESTANTS[name](setting)
    import torch  # after the contestant: ours has a word in how it starts

    on_gpu = setting.device == "cuda"

    def take(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - began

    for line in sys.stdin:
        # Loader processes have worked ahead while others were measured: use that up first, untimed.
        take(2 * setting.workers + 2 if name.startswith("lightly") else 2)
        steps, before = int(line), cpu_seconds()
        seconds = take(steps)
        answer = {
            "seconds": seconds,
            "steps": steps,
            "cpu_seconds": cpu_seconds() - before,
            "memory_gb": memory_gb("pss"),
            "own_memory_gb": memory_gb("uss"),
            "gpu_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0,
        }
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def family() -> list[psutil.Process]:
    """This process and its loaders."""
    me = psutil.Process()
    return [me, *me.children(recursive=True)]


def cpu_seconds() -> float:
    """Processor time of the family so far."""
    return sum(sum(p.cpu_times()[:2]) for p in family())


def memory_gb(kind: str) -> float:
    """Memory of the family now.

    Args:
        kind: `pss` counts pages shared with other processes in parts, `uss` not at all.
    """
    return float(sum(getattr(p.memory_full_info(), kind) for p in family())) / 1e9


if __name__ == "__main__":
    serve(sys.argv[1], Setting(**json.loads(sys.argv[2])))
    os._exit(0)  # loader processes and threads have nothing to save
