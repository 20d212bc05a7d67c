"""The noise around samples is read off the script's own draws: its variance, and nothing where there is none."""

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal

from whyvae.probe import Bench
from whyvae.probes import added_noise as module
from whyvae.probes.added_noise import added_noise
from whyvae.probes.decoder_noise import DecoderNoise
from whyvae.testing import factors, kl
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

SD = 0.3


def trained(draw):
    """A subject; `draw(decoder, z)` makes samples at the end."""
    torch.manual_seed(0)
    data = factors()
    encoder = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 6))
    decoder = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 12))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 3e-3)
    with Watcher() as watcher:
        for _ in range(60):
            x = data[torch.randperm(len(data))[:64]]
            mu, logvar = encoder(x).chunk(2, 1)
            output = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            optimizer.zero_grad()
            (((output - x).square().sum() / 0.04 + kl(mu, logvar)) / 64).backward()
            optimizer.step()
        with torch.no_grad():
            draw(decoder, torch.randn(50, 3))
    return Subject.of(watcher)


@pytest.mark.parametrize("draw", [
    lambda d, z: Normal(d(z), SD).sample(), lambda d, z: d(z) + SD * torch.randn(50, 12),
    lambda d, z: torch.normal(d(z), torch.full((50, 12), SD)), lambda d, z: Normal(d(z), SD * torch.ones(12)).rsample(),
])  # fmt: skip
def test_its_variance_is_seen(draw):
    noise = added_noise(trained(draw))
    assert noise.variance == pytest.approx(SD**2, rel=1e-5)
    assert noise.spread > 0
    assert noise.at.file == __file__


@pytest.mark.parametrize("draw", [
    lambda d, z: d(z), lambda d, z: (d(z), d(torch.randn(50, 3))), lambda d, z: torch.cat([d(z), d(torch.randn_like(z))]),
    lambda d, z: Bernoulli(logits=d(z)).sample(), lambda d, z: (d(z), torch.randn(50, 12)),
])  # fmt: skip
def test_none_is_seen_where_there_is_none(draw):
    assert added_noise(trained(draw)) is None


@pytest.mark.parametrize("unit", [1.0, 100.0])
def test_it_is_held_against_the_residual_in_any_unit(unit):
    noise = Bench(trained(lambda d, z: unit * (d(z) + 3 * torch.randn(50, 12)))).get(DecoderNoise)
    assert 0 < noise.drawn < 0.25


def test_a_gallery_made_in_a_loop_is_looked_at_once_a_line(monkeypatch):
    looked, around = [], module._around
    monkeypatch.setattr(module, "_around", lambda *given: looked.append(1) or around(*given))

    def pages(decoder, z, sd):
        return torch.cat([decoder(torch.randn(5, 3)) + sd * torch.randn(5, 12) for _ in range(40)])

    assert added_noise(trained(lambda d, z: pages(d, z, SD))).variance == pytest.approx(SD**2, rel=1e-5)
    assert added_noise(trained(lambda d, z: torch.cat([d(torch.randn(5, 3)) for _ in range(40)]))) is None
    assert len(looked) < 10
