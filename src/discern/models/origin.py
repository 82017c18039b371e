"""Where an encoder's weights come from, under which licence, and whether they saw labels. Needs no torch."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Source = Literal["none", "torchvision", "hub", "package", "file", "several"]
Labels = Literal["no", "captions", "unknown", "yes"]
"""Whether weights saw labels, from the strictest to what must count as labels; captions are texts from the web."""

NONE = "none"
IMAGENET = "imagenet1k_v1"

# How timm's names tell what weights were trained on: the first rule that is found in the words of NETWORK.TAG.
RULES: tuple[tuple[str, Labels], ...] = (
    (r"\bft\b.*\bin\w?\d+k\b", "yes"),  # whatever came before, it was fine-tuned on ImageNet's labels
    # Their teacher is a CLIP, or texts are a part of the loss.
    (r"\b(eupe|\w*radio|mim (in22k|m38m)|apple pt|merged2b|beit3|vit pe|msft florence2)\b", "captions"),
    (r"\b(dino|dinov2|dinov3|lvd142m|lvd1689m|sat493m|ijepa|mae|fcmae|seer)\b", "no"),
    (r"clip|openai|laion|webli|datacomp|\bdfn|cc12m|yfcc15m", "captions"),
    (r"\b(in\w?\d+k|jft|ig1b|bamboo|swag|ssld)\b", "yes"),
)


@dataclass(frozen=True)
class Origin:
    """Where weights come from.

    Attributes:
        name: as `weights` names them, or the repository of the hub that `pretrained` stands for.
        source: none (random weights), torchvision, hub, package, file; several where encoders are joined.
        revision: commit of the hub's repository, version of a package, name of torchvision's file.
        sha256: of the file.
        licence: as its publisher states it; empty where nobody does.
        labels: whether they saw labels.
    """

    name: str = NONE
    source: Source = "none"
    revision: str = ""
    sha256: str = ""
    licence: str = ""
    labels: Labels = "no"

    @property
    def given(self) -> bool:
        """Whether training started from weights at all."""
        return self.source != "none"

    def tags(self) -> dict[str, str]:
        """As tags of a run: `weights` is the name, the rest `weights.…`."""
        known = asdict(self)
        if self.given:
            known["licence"] = self.licence or "not stated"
        return {"weights" if key == "name" else f"weights.{key}": text for key, text in known.items() if text}

    def described(self) -> str:
        """One line for people: name, revision, licence, labels."""
        if not self.given:
            return "none"
        parts = [f"`{self.name}`"]
        if self.revision:
            parts.append(f"revision {self.revision}")
        parts += [f"licence {self.licence or 'not stated'}", f"saw labels: {self.labels}"]
        return ", ".join(parts)


def read_origin(found: object) -> Origin:
    """What encoder.json says; until version 0.1 it kept the name alone.

    Raises:
        TypeError: it says something else.
        ValueError: it names a source or labels that there are not.
    """
    if isinstance(found, str):
        if found == NONE:
            return Origin()
        if found == IMAGENET:
            return Origin(IMAGENET, "torchvision", labels="yes")
        return Origin(found, "file", labels="unknown")
    if not isinstance(found, dict):
        raise TypeError(f"weights: {found!r} is no origin")
    origin = Origin(**found)
    if origin.source not in get_args(Source) or origin.labels not in get_args(Labels):
        raise ValueError(f"weights: source {origin.source}, labels {origin.labels}")
    return origin


def labels_of(name: str) -> Labels:
    """Whether timm's weights saw labels, by its name for them: `NETWORK.TAG`."""
    words = re.sub(r"[._]", " ", name)
    return next((labels for pattern, labels in RULES if re.search(pattern, words)), "unknown")


def joined(origins: Sequence[Origin]) -> Origin:
    """One origin of an encoder of several; labels are those of the part that saw most of them."""
    different = list(dict.fromkeys(origin for origin in origins if origin.given))
    if len(different) < 2:
        return different[0] if different else Origin()
    order: tuple[Any, ...] = get_args(Labels)

    def together(values: list[str]) -> str:
        return " + ".join(value or "?" for value in values)

    return Origin(
        name=together([origin.name for origin in different]),
        source="several",
        revision=together([origin.revision for origin in different]),
        sha256=together([origin.sha256 for origin in different]),
        licence=together([origin.licence for origin in different]),
        labels=max((origin.labels for origin in different), key=order.index),
    )
