"""What a script evaluates on: held-out examples count, those of training do not, whatever stands beside them."""

import pytest
import torch
from torch import nn

from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher


def evaluated_on(*names):
    """The held-out feeds of a training on 48 of 112 examples that also evaluates on the sets of these names."""
    torch.manual_seed(0)
    everything = torch.randn(112, 6)
    sets = {"training": everything[:48], "other": everything[48:]}
    encoder, decoder = nn.Linear(6, 4), nn.Linear(2, 6)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])

    def loss_of(x):
        mu, logvar = encoder(x).chunk(2, 1)
        out = decoder(mu + torch.randn_like(mu) * (logvar / 2).exp())
        return ((out - x) ** 2).sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()

    with Watcher() as watcher:
        for step in range(40):
            optimizer.zero_grad()
            loss_of(sets["training"][torch.randint(48, (16,))]).backward()
            optimizer.step()
            if step % 10 == 9:
                with torch.no_grad():
                    for name in names:
                        loss_of(sets[name])
    subject = Subject.of(watcher)
    return subject.held_out, subject.lineage.data, sets


@pytest.mark.parametrize("names", [("other",), ("training", "other"), ("other", "training")])
def test_examples_that_training_never_saw(names):
    feeds, data, sets = evaluated_on(*names)
    assert feeds
    rows = {tuple(row.tolist()) for feed in feeds for row in feed[data]}
    assert rows <= {tuple(row.tolist()) for row in sets["other"].double()}


def test_examples_of_training():
    assert evaluated_on("training")[0] == []
