"""A regulariser that is no KL is left alone where draws from N(0, I) decode as well as encodings do, and named elsewhere."""

import pytest
import torch
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.facts import LossFacts
from whyvae.testing import factors
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher


def kernel(a, b):
    return sum((8 * s / (8 * s + torch.cdist(a, b) ** 2)).mean() for s in (0.2, 1.0, 5.0))


def trained(weight, seed):
    """An autoencoder with noise, regularised by a maximum mean discrepancy alone."""
    torch.manual_seed(seed)
    data = factors()
    encoder = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 8))
    decoder = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 12))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 3e-3)
    with Watcher() as watcher:
        for _ in range(600):
            x = data[torch.randint(len(data), (128,))]
            mu, log_sigma = encoder(x).chunk(2, 1)
            z = mu + torch.randn_like(mu) * log_sigma.clamp(-3, 1).exp()
            prior = torch.randn_like(z)
            apart = kernel(z, z) + kernel(prior, prior) - 2 * kernel(z, prior)
            optimizer.zero_grad()
            ((decoder(z) - x).square().sum(1).mean() + weight * apart).backward()
            optimizer.step()
    return Subject.of(watcher)


@pytest.mark.parametrize(("weight", "named"), [(100.0, False), (1e-6, True)])
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_discrepancy_is_judged_by_what_it_does(weight, named, seed):
    limits = Bench(trained(weight, seed)).get(LossFacts).limits
    assert any("compares examples" in limit for limit in limits) == named
