"""Data and first states that ask for gradients are data; a parameter that the optimiser was not given stays one."""

import pytest
import torch
from torch import nn
from torch.autograd import Variable

from whyvae.probe import Bench
from whyvae.probes.objective import Objective
from whyvae.probes.wiring import Wiring
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

B, T, F, H, L = 16, 5, 3, 12, 4


class Series(nn.Module):
    """An LSTM of sequences, as a first state of which the script keeps zeros that ask for gradients."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.LSTM(F, H, batch_first=True), nn.LSTM(1, H, batch_first=True)
        self.heads, self.first, self.out = nn.Linear(H, 2 * L), nn.Linear(L, H), nn.Linear(H, F)
        self.fed = torch.zeros(B, T, 1, requires_grad=True)
        self.state = torch.zeros(1, B, H, requires_grad=True)

    def forward(self, x):
        mu, logvar = self.heads(self.encoder(x)[1][0][-1]).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()
        return self.out(self.decoder(self.fed, (self.first(z)[None], self.state))[0]), mu, logvar


def trained(asked, shift=None):
    """A subject; `asked(x)` is the batch as the script hands it on, `shift` is added to the output."""
    torch.manual_seed(0)
    model = Series()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    with Watcher() as watcher:
        for _ in range(12):
            x = asked(torch.rand(B, T, F))
            y, mu, logvar = model(x)
            y = y if shift is None else y + shift
            loss = (y - x.detach()).square().sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Subject.of(watcher)


@pytest.mark.parametrize("asked", [
    lambda x: Variable(x, requires_grad=True), lambda x: x.requires_grad_(), lambda x: x, lambda x: x.clone().requires_grad_(),
])  # fmt: skip
def test_data_that_ask_for_gradients_are_data(asked):
    subject = trained(asked)
    bench = Bench(subject)
    assert subject.tape.slots[subject.lineage.data].shape == (B, T, F)
    assert bench.get(Objective).noise_variance == pytest.approx(0.5)
    assert bench.get(Wiring).unstepped == ()
    assert len(subject.train) >= len(subject.steps) - 1  # the first is recorded from its first gradient on


def test_a_parameter_that_was_forgotten_stays_one():
    shift = torch.zeros(F, requires_grad=True)
    assert Bench(trained(lambda x: x, shift)).get(Wiring).unstepped
