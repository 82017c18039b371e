"""Weights that an encoder starts from: chosen by name, or a file's; docs/weights.md describes the sources."""

import difflib
from pathlib import Path
from typing import cast, get_args

from discern.errors import ModelError, ParamsError
from discern.models.checkpoints import fill
from discern.models.encoder import ImageEncoder
from discern.models.files import metadata, read, sha256
from discern.models.hub import downloaded
from discern.models.making import read_making
from discern.models.origin import IMAGENET, NONE, Labels, Origin, Source
from discern.models.packages import PACKAGES, packaged
from discern.models.torchvision_weights import fetched

PRETRAINED = "pretrained"
CHOICES = f"{NONE}, {IMAGENET}, {PRETRAINED}, {PRETRAINED}@REVISION, {', '.join(PACKAGES)}, or the path of a file"


def initialise(encoder: ImageEncoder, weights: str) -> Origin:
    """Fill an encoder with given weights.

    Args:
        encoder: changed in place; `encoder.given` keeps where its weights come from.
        weights: `none` changes nothing; `imagenet1k_v1` are torchvision's; `pretrained` timm's from the hub,
            `pretrained@REVISION` those of one commit; the name of an installed package that carries weights;
            anything else is a file.

    Raises:
        ParamsError: there is nothing of this name, or not for this encoder.
        DownloadError: the weights cannot be fetched.
        ModelError: the file is missing, is none of weights, or does not fit the encoder.
    """
    source = source_of(weights)
    if source == "none":
        return Origin()
    if source == "package":
        state, path, origin = packaged(encoder, weights)
    else:
        if source == "torchvision":
            path, origin = fetched(encoder)
        elif source == "hub":
            path, origin = downloaded(encoder, weights.partition("@")[2])
        else:
            path = Path(weights)
        state = read(path)
        if source == "file":
            origin = of_file(path)
    fill(encoder, state, path)
    encoder.given = origin
    return origin


def weight_files(*weights: str) -> list[Path]:
    """Those that are files of one's own, whose content decides a result that their name does not tell.

    Raises:
        ParamsError: there is nothing of a name.
    """
    return [Path(name) for name in weights if source_of(name) == "file"]


def source_of(weights: str) -> Source:
    """Where weights of this name come from.

    Raises:
        ParamsError: there is nothing of this name, and it is no path.
    """
    if weights == NONE:
        return "none"
    if weights == IMAGENET:
        return "torchvision"
    if weights == PRETRAINED or (weights.startswith(f"{PRETRAINED}@") and not weights.endswith("@")):
        return "hub"
    if weights in PACKAGES:
        return "package"
    if "/" in weights or Path(weights).suffix or Path(weights).is_file():
        return "file"
    near = difflib.get_close_matches(weights, (NONE, IMAGENET, PRETRAINED, *PACKAGES), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ParamsError(f"weights: there are none of the name '{weights}'{hint} Weights are {CHOICES}")


def of_file(path: Path) -> Origin:
    """What is known of a file: from what stands beside an encoder of ours, else from its own metadata."""
    digest = sha256(path)
    if path.name == "encoder.safetensors" and path.with_name("encoder.json").is_file():
        try:
            making = read_making(path.parent)
        except ModelError:  # of somebody else, by chance under the same name
            return Origin(str(path), "file", "", digest, "", "unknown")
        return Origin(str(path), "file", "", digest, making.weights.licence, making.labels)
    said = metadata(path)
    licence, labels = said.get("licence") or said.get("license", ""), said.get("labels")
    known = cast(Labels, labels) if labels in get_args(Labels) else "unknown"
    return Origin(str(path), "file", said.get("revision", ""), digest, licence, known)
