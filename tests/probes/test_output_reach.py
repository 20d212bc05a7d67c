"""What an output can reach, where it is made of several numbers of the last layer."""

import math

import pytest
import torch
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.output import OutputRange
from whyvae.testing import kl
from whyvae.watch.direct import watch_model

N = 12


class Angles(nn.Module):
    def __init__(self, of_pair):
        super().__init__()
        self.of_pair, self.encoder, self.decoder = of_pair, nn.Linear(N, 6), nn.Linear(3, 2 * N)

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        pair = self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()).chunk(2, 1)
        angle = torch.distributions.VonMises(self.of_pair(*pair), torch.tensor(4.0))
        return (-angle.log_prob(x).sum() + kl(mu, logvar)) / len(x)


@pytest.mark.parametrize(
    ("of_pair", "low", "high"),
    [
        (torch.atan2, -math.pi, math.pi),
        (lambda s, c: torch.atan2(s, c.abs()), -math.pi / 2, math.pi / 2),
        (lambda s, c: torch.atan2(s.abs(), c), 0.0, math.pi),
    ],
    ids=["all angles", "half of them", "the other half"],
)
def test_an_angle_of_its_sine_and_cosine(of_pair, low, high):
    angles = (torch.rand(128, N, generator=torch.Generator().manual_seed(0)) * 2 - 1) * math.pi
    reach = Bench(watch_model(Angles(of_pair), angles, lambda model, x: model(x))).get(OutputRange)
    assert reach.low == pytest.approx(low, abs=0.02)
    assert reach.high == pytest.approx(high, abs=0.02)
    assert reach.outside == pytest.approx(1 - (high - low) / (2 * math.pi), abs=0.05)
