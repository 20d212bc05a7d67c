"""What reconstructions keep of data that are drawn anew in each step, against the probabilities themselves."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from whyvae.probe import Bench
from whyvae.probes.data import by_example
from whyvae.probes.reconstruction import Reconstruction, probabilities, reconstructions
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

DRAWS = {
    "bernoulli": torch.bernoulli,
    "compared": lambda p: (torch.rand_like(p) < p).float(),
    "the other way round": lambda p: p.gt(torch.rand(p.shape)).to(torch.float32),
}


def trained(draw, steps=300):
    generator = torch.Generator().manual_seed(3)
    shades = torch.sigmoid(3 * torch.randn(512, 2, generator=generator) @ torch.randn(2, 40, generator=generator))
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(0)
        encoder, decoder = nn.Linear(40, 8), nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 40))
        optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 5e-3)
        for _ in range(steps):
            x = draw(shades[torch.randint(512, (128,))])
            mu, logvar = encoder(x).chunk(2, 1)
            logits = decoder(mu + torch.randn_like(mu) * torch.exp(0.5 * logvar))
            kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
            optimizer.zero_grad()
            ((F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / 128).backward()
            optimizer.step()
    return Subject.of(watcher)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_what_is_drawn_cannot_come_back_and_is_not_asked_for(draw):
    subject = trained(draw)
    measured = Bench(subject).get(Reconstruction)
    slot = probabilities(subject.deps, subject.lineage.target)
    shades = torch.cat([by_example(subject.replay.run([slot], feed=f)[slot], 128) for f in subject.train]).double()
    outputs, targets = reconstructions(subject)
    wanted = 1 - float((outputs - shades).square().sum(1).mean()) / float(shades.var(0, correction=0).sum())
    assert measured.kept == pytest.approx(wanted)
    assert measured.kept > 0.15 + 1 - measured.sse / float(targets.var(0, correction=0).sum())


def test_data_that_are_given_are_not_taken_for_drawn():
    subject = trained(lambda p: p)
    assert probabilities(subject.deps, subject.lineage.target) is None
    outputs, targets = reconstructions(subject)
    wanted = 1 - float((outputs - targets).square().sum(1).mean()) / float(targets.var(0, correction=0).sum())
    assert Bench(subject).get(Reconstruction).kept == pytest.approx(wanted)
