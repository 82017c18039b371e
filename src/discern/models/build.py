"""From a network's description to the network: the class that it names, imported when it is wanted."""

import importlib

import torch
from torch import nn

from discern.models.encoder import ImageEncoder
from discern.params.encoder import NetworkModel


def network(params: NetworkModel) -> nn.Module:
    """The network that is described, initialised by torch's own generator as it stands."""
    # torchvision takes seconds to import, and a run uses one of all the networks that there are.
    module, _, name = params.network.partition(":")
    built: nn.Module = getattr(importlib.import_module(module), name)(params)
    return built


def new_encoder(params: NetworkModel) -> ImageEncoder:
    """The encoder that is described, initialised by torch's own generator as it stands."""
    encoder = network(params)
    assert isinstance(encoder, ImageEncoder), f"{params.kind} is no encoder"
    return encoder


def build_encoder(params: NetworkModel, seed: int) -> ImageEncoder:
    """A freshly initialised encoder; the seed decides its weights and nothing else is disturbed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = new_encoder(params)
    return encoder.to(memory_format=torch.channels_last)
