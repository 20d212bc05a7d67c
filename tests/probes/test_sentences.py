"""Sequences of classes of different lengths, decoded beside their own past: what the loss leaves out, and what is still judged."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whyvae.examine import examine
from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.data import Spectrum
from whyvae.probes.generation import Ladder, PriorExcess
from whyvae.probes.reconstruction import reconstructions
from whyvae.watch.beside import SHOWN
from whyvae.watch.direct import watch_model
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

PAD, BEGIN, END, WORDS, LONGEST, LATENTS = 0, 1, 2, 9, 8, 4


def sentences(count, seed=0):
    """One word of six, again and again, three to six times, and an end: [count, LONGEST]."""
    draw = torch.Generator().manual_seed(seed)
    word, other = (torch.randint(3, WORDS, (count, 1), generator=draw) for _ in range(2))
    times = torch.randint(3, LONGEST - 1, (count, 1), generator=draw)
    place = torch.arange(LONGEST)
    x = torch.where(place % 2 == 0, word, other)
    return x.masked_fill(place == times, END).masked_fill(place > times, PAD)


class Writer(nn.Module):
    """Bowman et al. 2016, small: encoder and decoder share the embedding, the decoder is shown part of the past."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12, padding_idx=PAD)
        self.encoder = nn.GRU(12, 32, batch_first=True)
        self.heads = nn.Linear(32, 2 * LATENTS)
        self.first = nn.Linear(LATENTS, 32)
        self.decoder = nn.GRU(12 + LATENTS, 32, batch_first=True)
        self.out = nn.Linear(32, WORDS)

    def decode(self, z, past, state=None):
        state = torch.tanh(self.first(z))[None] if state is None else state
        beside = z[:, None].expand(-1, past.shape[1], -1)
        h, state = self.decoder(torch.cat([self.embedding(past), beside], -1), state)
        return self.out(h), state

    def forward(self, x, kept=0.4):
        mu, logvar = self.heads(self.encoder(self.embedding(x))[1][-1]).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (logvar / 2).exp()
        past = torch.cat([torch.full((len(x), 1), BEGIN), x[:, :-1]], 1)
        if self.training:
            past = torch.where(torch.rand(past.shape) < kept, past, torch.full_like(past, PAD))
        return self.decode(z, past)[0], mu, logvar

    def write(self, z):
        word, state = torch.full((len(z), 1), BEGIN), torch.tanh(self.first(z))[None]
        written = []
        for _ in range(LONGEST):
            logits, state = self.decode(z, word, state)
            word = torch.distributions.Categorical(logits=logits[:, -1]).sample()[:, None]
            written.append(word)
        return torch.cat(written, 1)


def summed(logits, x):
    return F.cross_entropy(logits.flatten(0, 1), x.flatten(), ignore_index=PAD, reduction="sum") / len(x)


def averaged(logits, x):
    return F.cross_entropy(logits.flatten(0, 1), x.flatten(), ignore_index=PAD)


def kl(mu, logvar):
    return 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum() / len(mu)


@cache
def trained(likelihood=summed, weight=1.0, draw=torch.randn, steps=500):
    torch.manual_seed(3)
    model, data = Writer(), sentences(1500)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    with Watcher() as watcher:
        for _ in range(steps):
            x = data[torch.randint(len(data), (64,))]
            logits, mu, logvar = model(x)
            optimizer.zero_grad()
            (likelihood(logits, x) + weight * kl(mu, logvar)).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            model(sentences(400, seed=9))
            model.write(draw(200, LATENTS))
    return Subject.of(watcher)


def test_the_collapse_threshold_of_what_is_counted():
    """Against the curvature and the covariance of the scores at the best constant logits, by automatic differentiation."""
    x = sentences(512)

    def elbo(model, batch):
        logits, mu, logvar = model(batch)
        return summed(logits, batch) + kl(mu, logvar)

    subject = watch_model(Writer(), [x], elbo)
    counts = torch.stack([F.one_hot(x[:, t], WORDS)[x[:, t] != PAD].sum(0) for t in range(LONGEST)]).double()
    logits = (counts + 1e-12).log()

    def loss(at):
        return F.cross_entropy(
            at.expand(len(x), -1, -1).flatten(0, 1), x.flatten(), ignore_index=PAD, reduction="sum"
        ) / len(x)

    curved = torch.autograd.functional.hessian(loss, logits).reshape(logits.numel(), -1)
    each = logits.expand(len(x), -1, -1).clone().requires_grad_()
    nll = F.cross_entropy(each.flatten(0, 1), x.flatten(), ignore_index=PAD, reduction="sum")
    scores = torch.autograd.grad(nll, each)[0].flatten(1)
    values, vectors = torch.linalg.eigh(curved)
    kept = values > 1e-6
    white = scores @ (vectors[:, kept] / values[kept].sqrt())
    expected = torch.linalg.svdvals(white)[0] ** 2 / (len(x) - 1)
    assert Bench(subject).get(Spectrum).threshold_bernoulli == pytest.approx(float(expected), rel=1e-3)


def test_what_is_left_out_is_zero_on_both_sides():
    outputs, targets = reconstructions(trained())
    counted = targets.reshape(len(targets), LONGEST, WORDS).sum(-1)
    assert set(counted.unique().tolist()) == {0.0, 1.0}
    assert bool((outputs.reshape(len(outputs), LONGEST, WORDS)[counted == 0] == 0).all())


def test_samples_of_no_certain_length_are_not_compared_with_data():
    with pytest.raises(CannotMeasure, match="behind its end"):
        Ladder.measure(trained())


def test_held_out_sentences_are_told_from_the_past_that_the_same_embedding_reads():
    subject = trained()
    rows = {tuple(row.tolist()) for feed in subject.held_out for row in feed[subject.lineage.data]}
    given = {tuple(row.tolist()) for _, value in subject.held_out_inputs for row in value}
    assert all(row[0] != BEGIN for row in rows)
    assert any(row[0] == BEGIN for row in given)


def told(*arguments):
    return examine(trained(*arguments))


def test_a_sound_one_is_healthy():
    found = told()
    assert (found.verdict, found.findings) == ("healthy", ())
    assert SHOWN in trained().limits()


@pytest.mark.parametrize(("code", "arguments"), [
    ("OBJ02", (averaged,)), ("OBJ01", (summed, 40.0)), ("OBJ03", (summed, 1e-3)), ("GEN02", (summed, 1.0, torch.rand)),
])  # fmt: skip
def test_what_is_wrong_is_told(code, arguments):
    found = told(*arguments)
    assert found.findings[0].code == code


def test_where_no_samples_can_be_compared_the_share_that_no_encoding_reaches_is_told():
    sound, light = (Bench(trained(summed, weight)).get(PriorExcess) for weight in (1.0, 1e-3))
    assert sound.unknown
    assert sound.hole < 0.2
    assert light.hole > 0.9
