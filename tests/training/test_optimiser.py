import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from whyvae.data import Dataset
from whyvae.data.raw import Raw
from whyvae.models.build import ModelConfig
from whyvae.train import _follow, train
from whyvae.training.optimiser import clipped, optimizer_of, products
from whyvae.training.run import State, TrainConfig


def net(seed=0):
    torch.manual_seed(seed)
    made = nn.Linear(5, 3)
    for p in made.parameters():
        p.grad = torch.randn_like(p)
    return made


@pytest.mark.parametrize("limit", [0.5, 100.0, math.inf])
def test_a_gradient_is_clipped_as_torch_does_it(limit):
    ours, theirs = net(), net()
    norm, expected = clipped(list(ours.parameters()), limit), nn.utils.clip_grad_norm_(theirs.parameters(), limit)
    torch.testing.assert_close(norm, expected)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_long_gradient_that_is_no_number_stays_none():
    made = net()
    made.weight.grad[0, 0] = math.nan
    assert math.isnan(float(clipped(list(made.parameters()), 1.0)))


def test_the_average_counts_steps_between_its_updates():
    """Weights that stand still between the calls give what an average at every step gives."""
    made, decay, state = net(), 0.9, State(step=1000, followed=992)
    ema = [torch.zeros_like(p) for p in made.parameters()]
    _follow(ema, made, decay, state)
    assert state.followed == 1000
    for e, p in zip(ema, made.parameters(), strict=True):
        torch.testing.assert_close(e, (1 - decay**8) * p.detach())


def test_biases_do_not_decay():
    groups = optimizer_of(net(), TrainConfig()).param_groups
    assert [g["weight_decay"] for g in groups] == [0.01, 0.0]
    assert [p.dim() for g in groups for p in g["params"]] == [2, 1]


def test_mixed_precision_ends_with_the_training():
    before = torch.get_float32_matmul_precision()
    with products(TrainConfig(amp=True)):
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == before


def test_mixed_precision_trains(lines):
    config = TrainConfig(steps=60, batch=32, checks=6, device="cpu")
    model = ModelConfig(family="mlp", latents=2, widths=(16,))
    plain, mixed = (train(lines, model, c).held_out_nats for c in (config, replace(config, amp=True)))
    assert abs(plain - mixed) < 0.05 * abs(plain) + 1


@pytest.fixture
def lines():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(400, 2, generator=generator)
    rows = z @ torch.randn(2, 12, generator=generator) + 0.3 * torch.randn(400, 12, generator=generator)
    return Dataset.unchecked(Raw(rows.numpy(), kind="vector"), "rows")
