"""Each recorded step's own batch, however it was picked."""

import pytest
import torch

from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

DATA = torch.arange(240.0).reshape(60, 4) / 100  # no two rows are the same


def randint(step, order):
    return DATA[torch.randint(0, 60, (5,))]


def written_slice(step, order):
    return DATA[5 * step : 5 * step + 5]


def slice_of_an_order(step, order):
    return DATA[order[5 * step : 5 * step + 5]]


def loaded(step, order):
    with torch.no_grad():
        return DATA[5 * step : 5 * step + 5].clone()


def jittered(step, order):
    return DATA[order[5 * step : 5 * step + 5]] + 1e-6 * torch.randn(5, 4)


def binarised(step, order):
    return torch.bernoulli(((torch.arange(240).reshape(60, 4) >> step) % 2).float()[order[:5]])


def dropped(step, order):
    return torch.nn.functional.dropout(DATA[order[5 * step : 5 * step + 5]], 1e-9)


@pytest.mark.parametrize("pick", [randint, written_slice, slice_of_an_order, loaded, jittered, binarised, dropped])
def test_feeds_are_what_each_step_was_shown(pick):
    """What is drawn is drawn anew in a replay; here it moves nothing, or next to nothing."""
    shown = []
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(0)
        encoder, decoder = torch.nn.Linear(4, 4), torch.nn.Linear(2, 4)
        optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
        order = torch.randperm(60)
        for step in range(10):
            x = pick(step, order)
            shown.append(x)
            mu, logvar = encoder(x).chunk(2, 1)
            y = decoder(mu + torch.randn_like(mu) * (logvar / 2).exp())
            loss = (y - x).square().sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    subject = Subject.of(watcher)
    recorded = [step.index for step in subject.steps[1:]]  # of the first step, what is before the model is not seen
    assert len(recorded) >= 2
    assert len(subject.train) == len(recorded)
    for index, feed in zip(recorded, subject.train, strict=True):
        seen = subject.replay.run([subject.lineage.target], feed=feed)[subject.lineage.target]
        assert torch.allclose(seen, shown[index].double(), atol=1e-5 if pick is jittered else 0.0, rtol=1e-6)
