"""Timm's weights from the Hugging Face hub: fetched once, then taken from the hub's own cache."""

import os
import re
from pathlib import Path
from typing import Any

from discern.errors import DownloadError, ParamsError
from discern.models.encoder import ImageEncoder
from discern.models.files import first_line, sha256
from discern.models.origin import IMAGENET, Origin, labels_of
from discern.params.encoder import Timm
from discern.settings import settings

FILE = "model.safetensors"
SECONDS = 10  # that the hub may take to answer; huggingface_hub itself would try for minutes
BRANCH = "main"


def downloaded(encoder: ImageEncoder, revision: str) -> tuple[Path, Origin]:
    """The file that timm publishes for this encoder, and where it comes from.

    What lies in the cache for a revision is taken as it is: all stages of a run start from the same weights.

    Args:
        encoder: of kind timm.
        revision: commit, tag or branch of the hub's repository; empty: what its main branch is when it is fetched.

    Raises:
        ParamsError: the encoder is none of timm's, or timm publishes no weights of it.
        DownloadError: the hub does not give them, or what lies in the cache is damaged.
    """
    config = published_config(encoder)
    repository, revision = str(config.hf_hub_id), revision or BRANCH
    path = _cached(repository, revision) or _fetched(repository, revision)
    blob = path.resolve()  # the cache links to a file that is named after its checksum
    found = sha256(blob)
    if re.fullmatch("[0-9a-f]{64}", blob.name) and found != blob.name:
        raise DownloadError(f"{blob}: its sha256 is {found}, not its name; delete it")
    licence = "" if config.license in (None, "unknown") else str(config.license)
    labels = labels_of(f"{config.architecture}.{config.tag}")
    return path, Origin(repository, "hub", path.parent.name, found, licence, labels)


def published_config(encoder: ImageEncoder) -> Any:
    """Timm's record of the weights that it publishes for an encoder, with its repository on the hub.

    Raises:
        ParamsError: the encoder is none of timm's, or the hub has no weights of it.
    """
    from timm.models import get_pretrained_cfg

    params = encoder.params
    if not isinstance(params, Timm):
        raise ParamsError(
            f"weights: pretrained needs a base.encoder of kind timm, not {params.kind}; a ResNet of width 64 and"
            f" stem imagenet takes {IMAGENET}"
        )
    config = get_pretrained_cfg(params.name)
    if config is None or not config.hf_hub_id:
        url = getattr(config, "url", None)
        hint = f"; download {url}, then write its path" if url else ""
        raise ParamsError(f"weights: pretrained: timm has no weights of {params.name} on the hub{hint}")
    return config


def address(repository: str, revision: str) -> str:
    """The URL of the weights, at HF_ENDPOINT where that is set."""
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(repository, FILE, revision=revision, endpoint=_endpoint()))


def _cached(repository: str, revision: str) -> Path | None:
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(repository, FILE, constants.HF_HUB_CACHE, revision)
    return Path(found) if isinstance(found, str) else None


def _fetched(repository: str, revision: str) -> Path:
    """The file in the cache, under the commit that the revision means now."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download

    url = address(repository, revision)
    name = f"{repository.rpartition('/')[2]}.safetensors"
    instead = f"download it elsewhere, put it at weights/{name}, and set base.weights to that path"
    if settings().offline:
        raise DownloadError(f"{url}: not in {constants.HF_HUB_CACHE}, and DISCERN_OFFLINE is set; {instead}")
    try:
        # Asked once before: hf_hub_download waits for a hub that does not answer for minutes.
        get_hf_file_metadata(url, timeout=SECONDS, endpoint=_endpoint())
        path = hf_hub_download(
            repository, FILE, revision=revision, etag_timeout=SECONDS, endpoint=_endpoint(), library_name="discern"
        )
    except Exception as error:  # of httpx, of huggingface_hub, of the disk: the hub's part of the code is not ours
        raise DownloadError(f"{url}: {first_line(error)}; {instead}") from error
    return Path(path)


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None
