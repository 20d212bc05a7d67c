"""A target that is one of the channels the encoder is shown."""

import pytest
import torch
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.channels import channel_like, of_one_kind
from whyvae.probes.target import TargetMatch
from whyvae.rules.wiring.target_misaligned import TargetMisaligned
from whyvae.testing import kl
from whyvae.verdict import Finding, Healthy, Skipped
from whyvae.watch.direct import watch_model

N, T = 64, 24


def waves(seed):
    generator = torch.Generator().manual_seed(seed)
    phase, size = 6.3 * torch.rand(N, 1, generator=generator), 0.5 + torch.rand(N, 1, generator=generator)
    return size * torch.sin(phase + 0.3 * torch.arange(T)) + 0.05 * torch.randn(N, T, generator=generator)


def with_slope(waves):
    return torch.stack([waves, 3 * torch.gradient(waves, dim=1)[0]], 1)


class Waves(nn.Module):
    def __init__(self, target):
        super().__init__()
        self.target, self.encoder, self.decoder = target, nn.Linear(2 * T, 6), nn.Linear(3, T)

    def forward(self, x):
        mu, logvar = self.encoder(x.flatten(1)).chunk(2, 1)
        output = self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        return ((output - self.target(x)).square().sum() + kl(mu, logvar)) / len(x)


def verdict(target):
    subject = watch_model(Waves(target), [with_slope(waves(0)), with_slope(waves(1))], lambda model, x: model(x))
    return TargetMisaligned.check(Bench(subject).get(TargetMatch))


def test_its_own_channel():
    assert isinstance(verdict(lambda x: x[:, 0]), Healthy)


@pytest.mark.parametrize("target", [lambda x: waves(7), lambda x: x[:, 0].roll(1, 0)], ids=["other windows", "rolled"])
def test_another_examples_channel(target):
    found = verdict(target)
    assert isinstance(found, Finding)
    assert found.severity == "error"


@pytest.mark.parametrize(
    "target", [lambda x: waves(7).abs(), lambda x: 2 * waves(7)], ids=["another kind", "other units"]
)
def test_what_is_of_no_channels_kind_is_not_compared(target):
    assert isinstance(verdict(target), Skipped)


@pytest.mark.parametrize("seed", range(5))
def test_two_sets_of_one_kind(seed):
    assert of_one_kind(waves(100 + seed).double(), waves(200 + seed).double())
    assert not of_one_kind(waves(100 + seed).double(), 2 * waves(200 + seed).double())


def test_the_channel_that_is_equal_comes_before_one_that_is_alike():
    a, b = waves(0).double(), waves(1).double()
    assert torch.equal(channel_like(b, torch.stack([a, b], 1)), b)
    assert torch.equal(channel_like(b, torch.stack([a, b], 2)), b)
    assert channel_like(b[:8], with_slope(a[:8])) is None
