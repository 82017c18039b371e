"""Optimisers against updates by hand, the scaling of the learning rate and its schedule."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from discern.params.base import Base, Optimizer
from discern.params.pipeline import Params
from discern.training.objective import Objective
from discern.training.optimizers import Optimizers
from tests.unit.test_training import contrastive, momentum


@pytest.fixture
def base(params: Params) -> Base:
    return params.base


class Plain(Objective):
    """A weight and a bias, to be moved along gradients that are given."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()  # type: ignore[assignment]  # it has none
        self.weight = nn.Parameter(torch.tensor([[0.5, -1.0], [2.0, 0.25]], dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor([1.0, -0.5], dtype=torch.float64))


WEIGHT = [[0.3, -0.2, 0.1, 0.7], [0.1, 0.4, -0.6, 0.2], [-0.5, 0.1, 0.1, 0.3]]
BIAS = [[0.2, -0.9], [0.6, 0.1], [-0.2, 0.4]]
RATES = [0.2, 0.2, 0.15]  # 0.1 per 256 images, a batch of 512, and the cosine of steps 0 to 2 of 4
MOMENTUM = 0.9


def sgd(values: list[float], gradients: list[list[float]], decay: float) -> list[float]:
    velocity = [0.0] * len(values)
    for rate, gradient in zip(RATES, gradients, strict=True):
        for i in range(len(values)):
            velocity[i] = MOMENTUM * velocity[i] + gradient[i] + decay * values[i]
            values[i] -= rate * velocity[i]
    return values


def adamw(values: list[float], gradients: list[list[float]], decay: float) -> list[float]:
    """Loshchilov and Hutter 2019, with the usual 0.9 and 0.999."""
    first, second = [0.0] * len(values), [0.0] * len(values)
    for t, (rate, gradient) in enumerate(zip(RATES, gradients, strict=True), 1):
        for i in range(len(values)):
            first[i] = 0.9 * first[i] + 0.1 * gradient[i]
            second[i] = 0.999 * second[i] + 0.001 * gradient[i] ** 2
            m, v = first[i] / (1 - 0.9**t), second[i] / (1 - 0.999**t)
            values[i] -= rate * (m / (math.sqrt(v) + 1e-8) + decay * values[i])
    return values


def lars(values: list[float], gradients: list[list[float]], decay: float) -> list[float]:
    """You et al. 2017, with a trust coefficient of 0.001."""
    velocity = [0.0] * len(values)
    for rate, gradient in zip(RATES, gradients, strict=True):
        size, slope = math.hypot(*values), math.hypot(*gradient)
        local = 0.001 * size / (slope + decay * size)
        for i in range(len(values)):
            velocity[i] = MOMENTUM * velocity[i] + local * (gradient[i] + decay * values[i])
            values[i] -= rate * velocity[i]
    return values


def moved(kind: str, decay: float, batch_size: int = 512) -> Plain:
    """After three steps of four along the gradients above."""
    objective = Plain()
    params = Optimizer.model_validate(
        {"kind": kind, "lr": 0.1, "momentum": MOMENTUM, "weight_decay": decay, "clip": 0, "warmup": 0}
    )
    optimizers = Optimizers(objective, params, batch_size)
    for step in range(3):
        objective.weight.grad = torch.tensor(WEIGHT[step], dtype=torch.float64).view(2, 2)
        objective.bias.grad = torch.tensor(BIAS[step], dtype=torch.float64)
        assert optimizers.schedule(step, 4) == pytest.approx(RATES[step] * batch_size / 512)
        optimizers.step()
        assert objective.weight.grad is None
    return objective


@pytest.mark.parametrize("decay", [0.0, 0.05])
@pytest.mark.parametrize(
    ("kind", "of_weights", "of_biases"), [("sgd", sgd, sgd), ("adamw", adamw, adamw), ("lars", lars, sgd)]
)
def test_optimisers_move_weights_and_biases_as_their_papers_say(
    kind: str,
    of_weights: Callable[[list[float], list[list[float]], float], list[float]],
    of_biases: Callable[[list[float], list[list[float]], float], list[float]],
    decay: float,
) -> None:
    """Biases are neither decayed nor scaled by LARS."""
    start, end = Plain(), moved(kind, decay)
    weight = of_weights(start.weight.flatten().tolist(), WEIGHT, decay)
    bias = of_biases(start.bias.tolist(), BIAS, 0.0)
    assert end.weight.flatten().tolist() == pytest.approx(weight, rel=1e-7)
    assert end.bias.tolist() == pytest.approx(bias, rel=1e-7)


def test_twice_the_batch_moves_twice_as_far() -> None:
    start = Plain().weight
    once, twice = (moved("sgd", 0.0, size).weight - start for size in (256, 512))
    torch.testing.assert_close(twice, 2 * once, rtol=1e-12, atol=0)


def test_the_schedule_moves_the_decoders_rate_too_but_not_the_batch(base: Base) -> None:
    for batch_size in (256, 512):
        objective = contrastive()
        objective.adam_lr = 0.003
        optimizers = Optimizers(objective, base.optimizer, batch_size)
        main, adam = optimizers.all
        for step, factor in ((0, 0.1), (9, 1.0), (10, 1.0), (55, 0.5)):  # warm-up over 10 of 100 steps
            lr = optimizers.schedule(step, 100)
            assert lr == pytest.approx(factor * base.optimizer.lr * batch_size / 256)
            assert [group["lr"] for group in main.param_groups] == [lr, lr]
            assert adam.param_groups[0]["lr"] == pytest.approx(factor * 0.003)


def test_a_momentum_encoder_is_left_to_its_momentum(base: Base) -> None:
    objective = momentum()
    (main,) = Optimizers(objective, base.optimizer, 8).all
    trained = {id(p) for group in main.param_groups for p in group["params"]}
    for name, parameter in objective.named_parameters():
        assert (id(parameter) in trained) is not name.startswith("method.key_"), name
