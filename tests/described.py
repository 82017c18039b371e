"""Encoders of a made-up workspace: what stands beside the weights, without any."""

import json
from dataclasses import asdict
from typing import Any

from discern.models.making import Making
from discern.params.pipeline import CONTINUE, OURS, Params
from discern.workspace import Workspace


def describe(workspace: Workspace, params: Params, **others: dict[str, Any]) -> None:
    """Write encoder.json of every method for every seed; `others` are descriptions of methods without a file."""
    for name in params.methods.all:
        description: dict[str, Any] = {"kind": name}
        if name in params.methods.controls:
            description = {"kind": "control", **params.train_control[name].model_dump()}
        elif name not in (OURS, CONTINUE):
            description = others.get(name) or params.described[name].model_dump()
        for seed in params.methods.seeds:
            folder = workspace.encoder(name, seed)
            folder.mkdir(parents=True, exist_ok=True)
            made = asdict(Making(64, method=name, description=description))
            (folder / "encoder.json").write_text(json.dumps(made))
