"""Training curves and score distributions as panels of the page."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from discern.params.pipeline import CONTINUE, OURS, Params
from discern.report import figures
from discern.report.figures import Curve
from discern.workspace import Workspace


@dataclass(frozen=True)
class Panel:
    """One picture with its title and what to see in it."""

    title: str
    svg: Markup
    caption: str


def training(params: Params, workspace: Workspace, classes: int) -> list[Panel]:
    """Loss, kNN accuracy and spread of the embeddings over training, one line for each method and seed.

    Only of as many methods, the first, as there are colours that can be told apart.
    """
    frames: list[tuple[int | None, pd.DataFrame]] = []
    # Our method and its controls go on from the base encoder, so their passes count from its last.
    continued = {OURS, CONTINUE, *params.methods.controls}
    for number, method in [(None, "base"), *enumerate(params.methods.all[: figures.METHOD_COLOURS])]:
        for seed in params.methods.seeds:
            path = workspace.curve(method, seed)
            if path.is_file():
                frame = pd.read_csv(path)
                frame["passes"] += params.pretrain_decoder.passes if method in continued else 0
                # The sum holds terms that have no chance level; its contrastive term has one.
                frame["loss"] = frame["contrastive"].fillna(frame["loss"])
                frames.append((number, frame))
    panels = []
    if losses := _curves(frames, "loss", with_chance=True):
        panels.append(
            Panel(
                "Training loss",
                Markup(figures.lines("loss", "Training loss of every method", losses)),  # noqa: S704  our own SVG
                "Dashed: an encoder that tells no two images apart; a line that stays there learns nothing. "
                "Losses of different methods compare only with their own dashed line.",
            )
        )
    if accuracies := _curves(frames, "knn"):
        guess = 1 / classes if classes > 1 else None
        svg = figures.lines(
            "knn", "kNN accuracy on the validation images", accuracies, level=guess, percent=True, bottom=0
        )
        panels.append(
            Panel(
                "kNN accuracy on validation images",
                Markup(svg),  # noqa: S704
                "Dashed: guessing. Checkpoints are never chosen by this curve; the last epoch counts.",
            )
        )
    if spreads := _curves(frames, "std"):
        svg = figures.lines("std", "Spread of the embeddings of every method", spreads, level=1.0, bottom=0)
        panels.append(
            Panel(
                "Spread of the embeddings",
                Markup(svg),  # noqa: S704
                "Standard deviation of the normalised embeddings, times √d. Near 1 (dashed) they use all "
                "directions; at 0 they have collapsed to one point.",
            )
        )
    return panels


def scores(workspace: Workspace, seed: int) -> list[Panel]:
    """How the two criteria are distributed over feature dimensions, and which dimensions they mask."""
    path = workspace.scores(seed) / "scores.parquet"
    if not path.is_file():
        return []
    frame = pd.read_parquet(path)
    mask = frame["mask"].to_numpy(bool)
    share = f"{mask.sum()} of {len(mask)} dimensions are perturbed"
    captions = {
        "variance": f"Over the training images. {share[0].upper()}{share[1:]}.",
        "importance": "Grad-CAM importance under the contrastive loss.",
    }
    panels = [
        Panel(
            name.capitalize(),
            Markup(  # noqa: S704
                figures.histogram(f"scores-{name}", f"Histogram of {name}", _floats(frame, name), mask, name)
            ),
            caption,
        )
        for name, caption in captions.items()
    ]
    svg = figures.scatter("scores-both", "Variance against importance", frame)
    caption = "One dot for each dimension: those low in variance or in importance are called non-discriminative."
    return [*panels, Panel("Both criteria", Markup(svg), caption)]  # noqa: S704


def _curves(
    frames: list[tuple[int | None, pd.DataFrame]], column: str, *, with_chance: bool = False
) -> list[Curve]:
    found = []
    for number, frame in frames:
        if column in frame and frame[column].notna().any():
            chance = _floats(frame, "chance") if with_chance and "chance" in frame else np.empty(0)
            found.append(Curve(number, _floats(frame, "passes"), _floats(frame, column), chance))
    return found


def _floats(frame: pd.DataFrame, column: str) -> NDArray[Any]:
    return frame[column].to_numpy(np.float64, na_value=np.nan)
