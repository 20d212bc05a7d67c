"""A step that climbs (`maximize=True`) is read as one that descends minus its loss."""

import pytest
import torch
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.objective import Objective
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(12, 6), nn.Linear(3, 12)

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        return self.decoder(mu + torch.randn_like(mu) * (logvar / 2).exp()), mu, logvar


def watched(sign, *, maximize, kind=torch.optim.Adam):
    data = torch.randn(128, 12, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(0)
        model = VAE()
        optimizer = kind(model.parameters(), lr=1e-3, maximize=maximize)
        for x in data.repeat(4, 1).split(32):
            y, mu, logvar = model(x)
            loss = (y - x).square().sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
            optimizer.zero_grad()
            (sign * loss).backward()
            optimizer.step()
    return Subject.of(watcher), model


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_what_is_climbed_is_minus_a_loss(kind):
    climbing, one = watched(-1, maximize=True, kind=kind)
    descending, other = watched(1, maximize=False, kind=kind)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    found, meant = (Bench(s).get(Objective) for s in (climbing, descending))
    assert found.regulariser.form == meant.regulariser.form == "exact"
    assert found.noise_variance == pytest.approx(meant.noise_variance)
    assert climbing.main.loss > 0  # which steps are recorded is a matter of time


def test_a_loss_that_is_climbed_pushes_the_output_away():
    found = Bench(watched(1, maximize=True)[0]).get(Objective)
    assert found.regulariser.form == "wrong"
