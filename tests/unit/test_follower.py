"""Momentum encoders: they follow weights and statistics, and a key does not depend on its batch mates."""

import pytest
import torch
from torch import nn

from discern.methods.parts.follower import Follower
from discern.models.build import build_encoder
from tests.methods import ENCODER


def test_weights_and_statistics_follow_by_the_momentum() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(3, 4)
    module = nn.Sequential(linear, nn.BatchNorm1d(4)).double()
    follower = Follower(module, momentum=0.9)
    weight, mean, variance = linear.weight.detach().clone(), torch.zeros(4).double(), torch.ones(4).double()
    for step in range(1, 25):
        module(torch.randn(8, 3).double() + 2)  # moves the running statistics
        with torch.no_grad():
            linear.weight.add_(0.1)
        follower.follow(module)
        weight = 0.9 * weight + 0.1 * linear.weight.detach()
        share = max(1 / step, 0.1)  # the first statistics count as much as all before
        mean = (1 - share) * mean + share * module.get_buffer("1.running_mean")
        variance = (1 - share) * variance + share * module.get_buffer("1.running_var")
    torch.testing.assert_close(follower.get_parameter("module.0.weight").detach(), weight)
    torch.testing.assert_close(follower.get_buffer("module.1.running_mean"), mean)
    torch.testing.assert_close(follower.get_buffer("module.1.running_var"), variance)


def test_a_key_does_not_depend_on_its_batch_mates() -> None:
    follower = Follower(build_encoder(ENCODER, 0), 0.9)
    nn.Module.train(nn.ModuleList([follower]))  # what a training loop does
    x = torch.randn(6, 3, 16, 16)
    torch.testing.assert_close(follower(x)[:2], follower(x[:2]), atol=1e-5, rtol=1e-4)
    # The encoder itself, in training, would tell them apart.
    encoder = build_encoder(ENCODER, 0).train()
    assert not torch.allclose(encoder(x)[:2], encoder(x[:2]), atol=1e-3)


def test_it_has_no_gradient_and_stays_in_evaluation_mode() -> None:
    follower = Follower(nn.Linear(2, 2), 0.5)
    assert not any(p.requires_grad for p in follower.parameters())
    assert not follower.train().training
    assert not follower.module.training
    assert not follower(torch.randn(1, 2, requires_grad=True)).requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_what_is_followed_keeps_its_mode(training: bool) -> None:
    module = nn.BatchNorm1d(2).train(training)
    Follower(module, 0.5)
    assert module.training is training
