"""Noise that is the same in every step, and noise that only seems to be."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from whyvae.probe import Bench
from whyvae.probes.noise import Noise
from whyvae.rules.posterior.noise_wrong import NoiseWrong
from whyvae.testing import Patient, elbo
from whyvae.verdict import Finding
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

ONCE = torch.randn(64, 4, generator=torch.Generator().manual_seed(7))


def drawn_once(mu, logvar):
    return mu + ONCE[: len(mu)] * (0.5 * logvar).exp()


def seeded_again(mu, logvar):
    return mu + torch.randn(mu.shape, generator=torch.Generator().manual_seed(7)) * (0.5 * logvar).exp()


def by_a_stream_of_its_own():
    stream = torch.Generator().manual_seed(7)
    return lambda mu, logvar: mu + torch.randn(mu.shape, generator=stream) * (0.5 * logvar).exp()


def by_a_distribution(mu, logvar):
    return Normal(mu, (0.5 * logvar).exp()).rsample()


def drawn_in_memory(mu, logvar):
    return mu + torch.empty_like(mu).normal_() * (0.5 * logvar).exp()


@pytest.mark.parametrize(("sample", "same"), [
    (drawn_once, True), (seeded_again, True), (by_a_stream_of_its_own(), False), (by_a_distribution, False), (drawn_in_memory, False),
])  # fmt: skip
def test_noise_is_drawn_anew(sample, same):
    bench = Bench(Patient(sample=sample, steps=40).train())
    noise = bench.get(Noise)
    assert (noise.repeated > 2) == same
    assert isinstance(bench.call(NoiseWrong.check), Finding) == same


@pytest.mark.parametrize(("outer", "same"), [(1, False), (12, True)])
def test_within_a_step_of_l_bfgs_it_is_to_stay(outer, same):
    torch.manual_seed(0)
    x, eps = torch.randn(64, 3) @ torch.randn(3, 12), torch.randn(64, 3)
    encoder, decoder = nn.Linear(12, 6), nn.Linear(3, 12)
    optimizer = torch.optim.LBFGS([*encoder.parameters(), *decoder.parameters()], lr=0.1, max_iter=8)

    def closure():
        mu, logvar = encoder(x).chunk(2, 1)
        optimizer.zero_grad()
        loss = elbo(decoder(mu + eps * (0.5 * logvar).exp()), x, mu, logvar)
        loss.backward()
        return loss

    with Watcher(ratio=1.0) as watcher:
        for _ in range(outer):
            optimizer.step(closure)
    assert (Bench(Subject.of(watcher)).get(Noise).repeated > 1) == same
