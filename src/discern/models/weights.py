"""Weights in and out: safetensors beside a JSON of the architecture. Pickle is never read."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from discern.errors import ModelError
from discern.images.views import MEAN, STD
from discern.models.build import build_encoder
from discern.models.decoder import ImageDecoder, build_decoder
from discern.models.encoder import ImageEncoder
from discern.models.making import Making, read_architecture, read_weights
from discern.params.encoder import Architecture
from discern.params.synthesis import Decoder

ARCHITECTURE: TypeAdapter[Architecture] = TypeAdapter(Architecture)


def save_encoder(folder: Path, encoder: ImageEncoder, making: Making) -> None:
    """Write encoder.safetensors and encoder.json, all that is needed to use the encoder elsewhere."""
    architecture = {
        "encoder": encoder.params.model_dump(),
        "dim": encoder.dim,
        **asdict(making),
        "normalisation": {"mean": MEAN, "std": STD},
    }
    save_module(folder, "encoder", encoder, architecture)


def load_encoder(folder: Path) -> ImageEncoder:
    """The encoder of a folder that `save_encoder` wrote, in eval mode on the CPU.

    Raises:
        ModelError: a file is missing, damaged or does not fit the architecture beside it.
    """
    architecture = read_architecture(folder, "encoder")
    try:
        encoder = build_encoder(ARCHITECTURE.validate_python(architecture["encoder"]), seed=0)
    except (KeyError, ValidationError) as error:
        raise ModelError(f"{folder / 'encoder.json'}: not an encoder's description: {error}") from error
    load_module(folder, "encoder", encoder)
    encoder.given = read_weights(folder)
    encoder.eval()
    return encoder


def save_decoder(folder: Path, decoder: ImageDecoder, params: Decoder, dim: int) -> None:
    """Write decoder.safetensors and decoder.json."""
    save_module(folder, "decoder", decoder, {"decoder": params.model_dump(), "dim": dim})


def load_decoder(folder: Path) -> ImageDecoder:
    """The decoder of a folder that `save_decoder` wrote, in eval mode on the CPU.

    Raises:
        ModelError: a file is missing, damaged or does not fit the architecture beside it.
    """
    architecture = read_architecture(folder, "decoder")
    try:
        decoder = build_decoder(Decoder.model_validate(architecture["decoder"]), architecture["dim"], seed=0)
    except (KeyError, ValidationError) as error:
        raise ModelError(f"{folder / 'decoder.json'}: not a decoder's description: {error}") from error
    load_module(folder, "decoder", decoder)
    decoder.eval()
    return decoder


def save_module(folder: Path, name: str, module: nn.Module, architecture: dict[str, Any]) -> None:
    """Write NAME.safetensors and NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in module.state_dict().items()}
    save_file(state, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(architecture, indent=2) + "\n", encoding="utf-8")


def load_module(folder: Path, name: str, module: nn.Module) -> None:
    """Fill a module from NAME.safetensors.

    Raises:
        ModelError: the file is missing, damaged or of another architecture.
    """
    path = folder / f"{name}.safetensors"
    try:
        module.load_state_dict(load_file(path))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path}: no such file; run `dvc repro` to train it, or `dvc pull` to fetch it"
        ) from error
    except (SafetensorError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"{path}: damaged, or of another architecture ({first})") from error
