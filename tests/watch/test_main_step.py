"""Which of the programs a run is made of stands for it."""

import pytest
import torch
from torch import nn

from whyvae import watch
from whyvae.watch.subject import Subject


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(12, 6), nn.Linear(3, 12)

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        z = mu + torch.exp(logvar / 2) * torch.randn_like(mu) if self.training else mu
        return self.decoder(z), mu, logvar


def trained(steps: int, noisy: range, size=lambda step: 16) -> Subject:
    """A run whose steps draw noise in `noisy` alone; `size` says how many examples a step has."""
    torch.manual_seed(0)
    model, data = Net(), torch.randn(64, 12)
    optimizer = torch.optim.Adam(model.parameters())
    with watch() as watcher:
        for step in range(steps):
            model.train(step in noisy)
            output, mu, logvar = model(data[torch.randperm(64)[: size(step)]])
            kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
            loss = ((output - data[: size(step)]) ** 2).sum() + kl
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Subject.of(watcher)


@pytest.mark.parametrize(("noisy", "posterior"), [
    (range(100), "gaussian"), (range(20), "deterministic"), (range(70), "gaussian"), (range(30, 100), "gaussian"),
])  # fmt: skip
def test_noise_that_stopped_early_is_no_noise(noisy, posterior):
    found = trained(100, noisy).lineage.posterior
    assert (found == "deterministic") == (posterior == "deterministic")


def test_the_last_batch_may_be_of_another_size():
    """Sentences padded to the longest of their batch: the commonest program may be one of the first half's."""
    found = trained(100, range(100), lambda step: 16 if step < 40 else 3 + step % 13).lineage.posterior
    assert found == "diagonal Gaussian"


def test_where_every_step_has_a_size_of_its_own_the_last_one_counts():
    """Sequences packed by their lengths: a step of the beginning knows nothing of a weight that was warmed up."""
    subject = trained(60, range(60), lambda step: 4 + step)
    assert subject.main is subject.steps[-1]
