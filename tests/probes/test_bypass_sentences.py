"""A sentence VAE whose decoder starts from the encoder's state: what new sentences are made of is seen."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.bypass import Bypass
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

START, WORDS, LENGTH, UNITS = 0, 9, 6, 12


class Sentences(nn.Module):
    def __init__(self, *, from_z):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 8)
        self.reader, self.writer = nn.GRU(8, UNITS, batch_first=True), nn.GRU(8 + 3, UNITS, batch_first=True)
        self.mu, self.logvar = nn.Linear(UNITS, 3), nn.Linear(UNITS, 3)
        self.first, self.words = nn.Linear(3, UNITS), nn.Linear(UNITS, WORDS)
        self.from_z = from_z

    def write(self, inputs, z, state):
        beside = z[:, None].expand(-1, inputs.shape[1], -1)
        made, state = self.writer(torch.cat([self.embedding(inputs), beside], -1), state)
        return self.words(made), state

    def forward(self, x):
        _, state = self.reader(self.embedding(x))
        mu, logvar = self.mu(state[0]), self.logvar(state[0])
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()
        before = torch.cat([torch.full((len(x), 1), START), x[:, :-1]], 1)
        before = before.masked_fill(torch.rand(before.shape) < 0.6, START)
        return self.write(before, z, self.first(z)[None].tanh() if self.from_z else state)[0], mu, logvar

    @torch.no_grad()
    def sample(self, count):
        z = torch.randn(count, 3)
        state, word = self.first(z)[None].tanh(), torch.full((count, 1), START)
        for _ in range(LENGTH):
            logits, state = self.write(word, z, state)
            word = logits.argmax(-1)


def subject_of(*, from_z):
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(1)
        model = Sentences(from_z=from_z)
        kinds = torch.randint(1, WORDS, (40, LENGTH))
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        for _ in range(120):
            x = kinds[torch.randint(0, 40, (64,))]
            logits, mu, logvar = model(x)
            loss = F.cross_entropy(logits.transpose(1, 2), x, reduction="sum") / 64
            optimizer.zero_grad()
            (loss + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / 64).backward()
            optimizer.step()
        with torch.no_grad():  # beside the samples stands an evaluation
            model(kinds[:20])
        model.sample(16)
    return Subject.of(watcher)


@pytest.mark.parametrize(("from_z", "own", "alone"), [(False, True, True), (True, False, True)])
def test_what_a_new_sentence_is_made_of(from_z, own, alone):
    subject = subject_of(from_z=from_z)
    assert len(subject.decoded) > 0
    found = Bench(subject).get(Bypass)
    assert (found.leak, found.own, found.alone) == (True, own, alone)
