"""What training from given weights adds to them: the recipe of the preset own-photos and its remedies, over seeds.

Every training is scored in several ways at once: the trained encoder alone, and beside the given one, left as they
are or corrected. Stopped in any way, the same command goes on where it was. Differences are paired with the frozen
weights by test image; intervals are over images and seeds.

    python -m benchmarks.adaptation coffee-leaf --photos FOLDER --resize squash --seeds 0,1,2,3,4,5 --out …
    python -m benchmarks.adaptation coffee-leaf --photos FOLDER --seeds 0,1 --remedies slow_norm,averaged
"""

import copy
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from ruamel.yaml import YAML

from benchmarks.methods import ROOT, clone
from benchmarks.setting import provenance, publish
from discern.embedding.features import extract
from discern.embedding.knn import vote
from discern.evaluation import probe, retrieval
from discern.evaluation.bootstrap import paired_over_seeds
from discern.images.loading import Budget, ImageStore
from discern.images.packed import PackedSplit
from discern.methods.build import build_two_view
from discern.methods.parts.contrastive import ContrastiveObjective
from discern.models.corrected import Correction
from discern.params.load import load
from discern.params.pipeline import Params
from discern.run.adapt import given_encoder
from discern.training.adaptation import Adapted, prepare
from discern.training.checkpoint import Checkpoint
from discern.training.distributed import World
from discern.training.loop import Run, train
from discern.training.schedule import plan

CPU = torch.device("cpu")
FROZEN, RECIPE = "frozen", "recipe"
REMEDIES: dict[str, dict[str, float]] = {
    RECIPE: {},
    "slow_norm": {"batch_norm_momentum": 0.01},
    "fixed_norm": {"batch_norm_momentum": 0.0},
    "distilled": {"distillation": 1.0},
    "averaged": {"average": 0.9},
    "half_given": {"start_share": 0.5},
    "last_stages": {"fixed_stages": 5},
    "layer_decay": {"layer_decay": 0.8},
}
"""Each changes one thing of the recipe."""
MEASURES = {"probe": "Linear probe", "knn": "kNN", "rank1": "Rank-1", "ap": "mAP"}

Features = dict[str, npt.NDArray[np.float32]]  # by split
Outcomes = dict[str, npt.NDArray[np.float64]]  # by measure


def prepared(folder: Path, photos: Path, size: int, resize: str) -> Params:
    """A clone with the preset written into it, and the photographs packed."""
    clone(folder, fresh=False)
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "DISCERN_TRACKING": "false"}
    command = [sys.executable, "-m", "discern", "preset", "own-photos", "--force"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    yaml, path = YAML(), folder / "params.yaml"
    yaml.width = 10_000
    tree = yaml.load(path.read_text(encoding="utf-8"))
    tree["dataset"] = {"kind": "folder", "path": str(photos.resolve()), "licence": "see the source"}
    tree["pack"] = {"image_size": size, "resize": resize}
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(tree, file)
    subprocess.run(["dvc", "repro", "--quiet", "pack"], cwd=folder, env=environment, check=True)
    return load(path)


class Bench:
    """One data set: frozen features once, then a training for each remedy and seed.

    Args:
        params: of the preset.
        folder: of the clone; outcomes are kept below it.
    """

    def __init__(self, params: Params, folder: Path) -> None:
        self.params, self.kept = params, folder / ".discern" / "adaptation"
        self.kept.mkdir(parents=True, exist_ok=True)
        self.splits = {
            name: PackedSplit.load(folder / "data" / "packed" / name) for name in ("train", "val", "test")
        }
        self._frozen: Features | None = None

    def features(self, encoder: torch.nn.Module) -> Features:
        """Of every split."""
        return {name: extract(encoder, split.images, CPU, 128, "fp32") for name, split in self.splits.items()}

    @property
    def frozen(self) -> Features:
        """Of the given weights."""
        if self._frozen is None:
            base = self.params.base
            self._frozen = self.features(given_encoder(base, base.weights, 0))
        return self._frozen

    def score(self, features: Features) -> Outcomes:
        """Outcomes of every test image, by the protocol's probe, vote and retrieval."""
        y = {name: split.labels for name, split in self.splits.items()}
        strengths, knn = self.params.evaluate.probe.strengths, self.params.evaluate.knn
        fitted = probe.fit(
            (features["train"], y["train"]),
            (features["val"], y["val"]),
            len(self.splits["test"].classes),
            strengths,
        )
        voted = vote(features["train"], y["train"], features["test"], knn.k, knn.temperature)
        found = retrieval.leave_one_out(features["test"], np.array(y["test"]))
        return {
            "probe": probe.score(fitted, features["test"], y["test"]).correct,
            "knn": (voted.predictions == y["test"]).astype(float),
            "rank1": found.rank1,
            "ap": found.ap,
        }

    def read_out(self, trained: Features) -> dict[str, Outcomes]:
        """The trained encoder alone, and beside the given one as they are and corrected."""
        adaptation = self.params.base.adaptation
        ways = {"beside": None, "beside, corrected": (adaptation.components, adaptation.whitening)}
        scored = {"alone": self.score(trained)}
        for name, way in ways.items():
            parts = [self._unit(part, way) for part in (self.frozen, trained)]
            both = {split: np.concatenate([part[split] for part in parts], axis=1) for split in self.splits}
            scored[name] = self.score(both)
        return scored

    def corrected(self) -> Outcomes:
        """The given weights with the recipe's correction."""
        adaptation = self.params.base.adaptation
        return self.score(self._unit(self.frozen, (adaptation.components, adaptation.whitening)))

    def _unit(self, part: Features, way: tuple[int, float] | None) -> Features:
        correction = Correction(torch.from_numpy(part["train"]))
        made = {}
        for split, rows in part.items():
            y = torch.from_numpy(rows) if way is None else correction.apply(torch.from_numpy(rows), *way)
            made[split] = torch.nn.functional.normalize(y, dim=1).numpy()
        return made

    def run(self, remedy: str, seed: int) -> tuple[dict[str, Outcomes], float]:
        """Outcomes by way of reading, and the seconds that training took; from a file where it was done before."""
        file = self.kept / f"{remedy}-{seed}.npz"
        if not file.exists():
            began = time.perf_counter()
            encoder = self.train(remedy, seed)
            seconds = time.perf_counter() - began
            scored = self.read_out(self.features(encoder))
            arrays: dict[str, Any] = {
                f"{way}/{name}": v for way, found in scored.items() for name, v in found.items()
            }
            partial = file.with_name(f"partial-{file.name}")
            np.savez(partial, seconds=np.array(seconds), **arrays)
            partial.rename(file)
            print(f"{remedy}, seed {seed}: {seconds:.0f} s of training", file=sys.stderr, flush=True)
        with np.load(file) as kept:
            ways: dict[str, Outcomes] = {}
            for key in kept.files:
                way, _, name = key.partition("/")
                if name:
                    ways.setdefault(way, {})[name] = kept[key]
            return ways, float(kept["seconds"])

    def train(self, remedy: str, seed: int) -> torch.nn.Module:
        """SimCLR for the budget of a whole method, with one thing changed."""
        params, images = self.params, self.splits["train"].images
        base = params.base.model_copy(
            update={
                "precision": "fp32",
                "adaptation": params.base.adaptation.model_copy(
                    update={**REMEDIES[remedy], "side_by_side": False}
                ),
            }
        )
        start = given_encoder(base, base.weights, seed)
        encoder = copy.deepcopy(start)
        prepare(encoder, base.adaptation)
        inner = ContrastiveObjective(build_two_view(params.loss, encoder, len(images), seed))
        objective = Adapted(inner, base.adaptation, start)
        budget = params.pretrain_decoder.passes + params.train_encoder.passes
        work = self.kept / "work"
        shutil.rmtree(work, ignore_errors=True)
        run = Run(
            name=f"{remedy} (seed {seed})",
            images=ImageStore(images, CPU, Budget.of(CPU)),
            plan=plan(budget, len(images), base.batch_size, objective.passes),
            base=base,
            size=params.pack.image_size,
            seed=seed,
            world=World(CPU),
            checkpoint=Checkpoint(work, 3600),
        )
        train(objective, run)
        return objective.kept()


def compared(
    frozen: Outcomes, ways: list[dict[str, Outcomes]], params: Params
) -> dict[str, dict[str, tuple[float, float, float, float]]]:
    """By way and measure: the mean, and its difference to the frozen weights with its interval."""
    bootstrap = params.evaluate.bootstrap
    table: dict[str, dict[str, tuple[float, float, float, float]]] = {}
    for way in ways[0]:
        table[way] = {}
        for name in MEASURES:
            ours = np.stack([found[way][name] for found in ways])  # (S, N)
            theirs = np.broadcast_to(frozen[name], ours.shape)
            found = paired_over_seeds(ours, theirs, bootstrap.samples, bootstrap.seed)
            table[way][name] = (float(np.nanmean(ours)), found.mean, found.low, found.high)
    return table


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown, with command, seeds, machine and date."""
    machine, counts = result["machine"], result["images"]
    lines = [
        f"`{result['command']}`, {machine['cores']} cores of {machine['cpu']}, {result['date']}, seeds"
        f" {','.join(map(str, result['seeds']))}. {counts['train']:,} training, {counts['val']:,} val and"
        f" {counts['test']:,} test images, {result['pixels']} px. In parentheses: difference to frozen, 95 %"
        " interval over images and seeds.",
        "",
        f"| encoder | seeds | {' | '.join(MEASURES.values())} |",
        f"| --- | ---: | {' | '.join(['---:'] * len(MEASURES))} |",
        f"| frozen | – | {' | '.join(f'{100 * result[FROZEN][m]:.1f}' for m in MEASURES)} |",
    ]
    for name, entry in result["compared"].items():
        for way, found in entry["ways"].items():
            cells = [f"{100 * m:.1f} ({100 * d:+.1f}: {100 * lo:+.1f} to {100 * hi:+.1f})" for m, d, lo, hi in
                     (found[measure] for measure in MEASURES)]  # fmt: skip
            lines.append(f"| {name}, {way} | {entry['seeds']} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main(
    name: Annotated[str, typer.Argument(help="of the run's folder")],
    photos: Annotated[Path, typer.Option(help="folder of labelled photographs")],
    resize: str = "crop",
    size: Annotated[int, typer.Option(help="side in pixels")] = 112,
    seeds: str = "0",
    remedies: Annotated[str, typer.Option(help=f"of {', '.join(REMEDIES)}")] = RECIPE,
    out: Annotated[Path | None, typer.Option(help="write OUT.md and OUT.json")] = None,
) -> None:
    """Train, score, compare."""
    folder = ROOT / ".discern" / "benchmarks" / f"adaptation-{name}-{size}"
    bench = Bench(prepared(folder, photos, size, resize), folder)
    numbers = [int(seed) for seed in seeds.split(",")]
    frozen = bench.score(bench.frozen)
    entries: dict[str, Any] = {
        FROZEN: {"seeds": "–", "ways": compared(frozen, [{"corrected": bench.corrected()}], bench.params)}
    }
    for remedy in remedies.split(","):
        done = [bench.run(remedy, seed) for seed in numbers]
        entries[remedy] = {
            "seeds": len(numbers),
            "seconds": [seconds for _, seconds in done],
            "ways": compared(frozen, [ways for ways, _ in done], bench.params),
        }
    result = {
        **provenance("cpu"),
        "seeds": numbers,
        "images": {split: len(found.images) for split, found in bench.splits.items()},
        "pixels": size,
        FROZEN: {name: float(np.nanmean(values)) for name, values in frozen.items()},
        "compared": entries,
    }
    publish(result, table(result), out)


if __name__ == "__main__":
    typer.run(main)
