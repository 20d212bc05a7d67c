"""What goes around z, and what it is worth: against errors computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.bypass import Bypass
from whyvae.probes.facts import answered
from whyvae.testing import Patient, kl
from whyvae.watch.beside import SHOWN
from whyvae.watch.direct import watch_model

B, D, L = 32, 6, 3
SHARP = -40.0  # log-variance: z is mu to 1e-9


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.mu, self.out = nn.Linear(D, L), nn.Linear(L, D)
        self.hidden = nn.Linear(D, D)
        self.double()


def rows(n=2 * B, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(decode, data=None, target=lambda x: x):
    return bench_of(decode, data, target).get(Bypass)


def bench_of(decode, data=None, target=lambda x: x):
    def loss(m, x):
        mu = m.mu(x)
        logvar = torch.full_like(mu, SHARP) + 0 * mu
        y = decode(m, mu + torch.randn_like(mu) * (0.5 * logvar).exp(), x)
        return ((y - target(x)).square().sum() / 2 + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()) / len(x)

    x = rows() if data is None else data
    return Bench(watch_model(Net(), [x[:B], x[B:]], loss))


def by_hand(decode):
    """(growth without the own side path, without the own z, nats), averaged over both batches."""
    m, x = Net(), rows()
    sums = torch.zeros(4, dtype=torch.float64)
    with torch.no_grad():
        for batch in (x[:B], x[B:]):
            z, other = m.mu(batch), batch.roll(1, 0)
            for k, y in enumerate((decode(m, z, batch), decode(m, z, other), decode(m, m.mu(other), batch))):
                sums[k] += (y - batch).square().sum(1).mean() / 2
            sums[3] += batch.var(0, correction=0).sum() / 2
    whole, side, latent, constant = sums.tolist()
    return (side - whole) / constant, (latent - whole) / constant, D / 2 * math.log(latent / whole)


SIDE = {
    "the input": lambda m, z, x: m.out(z) + 0.8 * x,
    "a hidden layer": lambda m, z, x: m.out(z) + m.hidden(x),
    "mu": lambda m, z, x: 0.1 * m.out(z) + m.out(m.mu(x)),
    "its first half": lambda m, z, x: m.out(z) + torch.cat([x[:, : D // 2], torch.zeros_like(x[:, D // 2 :])], 1),
}


@pytest.mark.parametrize("name", SIDE)
def test_growth_without_either_way(name):
    found, expected = measured(SIDE[name]), by_hand(SIDE[name])
    assert (found.leak, found.own) == (True, True)
    assert (found.side, found.latent, found.gain) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert found.at is not None
    assert found.at.file == __file__


def test_features_of_which_all_of_z_is_made():
    """A hidden layer before both heads; not the input, and not a condition: of these only a part is z's."""

    def measured_with(side):
        def loss(m, x):
            hidden, given = torch.tanh(m.hidden(x)), torch.tanh(m.hidden(x * (torch.arange(D) < D // 2)))
            mu = m.mu(hidden if side != "a condition" else hidden + given)
            logvar = -1.0 - mu.square()
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            y = m.out(z) + {"hidden": hidden, "a condition": given, "the input": x, "nothing": 0 * z.sum()}[side]
            return ((y - x).square().sum() + kl(mu, logvar)) / len(x)

        x = rows()
        return Bench(watch_model(Net(), [x[:B], x[B:]], loss)).get(Bypass)

    found = {side: measured_with(side) for side in ("hidden", "a condition", "the input", "nothing")}
    assert {side: f.features for side, f in found.items()} == {
        "hidden": True, "a condition": False, "the input": False, "nothing": False,
    }  # fmt: skip
    assert {side: f.leak for side, f in found.items() if side != "nothing"} == dict.fromkeys(
        ("hidden", "a condition", "the input"), True
    )


def test_z_alone_leaks_nothing():
    found = measured(lambda m, z, x: m.out(z))
    assert (found.leak, found.at) == (False, None)


def test_the_past_is_not_the_number_itself():
    """Output j sees the numbers before j."""
    past = torch.triu(torch.ones(D, D, dtype=torch.float64), 1)
    found = measured(lambda m, z, x: m.out(z) + x @ past)
    assert (found.leak, found.own) == (True, False)
    found = measured(lambda m, z, x: m.out(z) + x @ (past + torch.eye(D, dtype=torch.float64)))
    assert (found.leak, found.own) == (True, True)


@pytest.mark.parametrize(("weight", "answer"), [(1e-3, (SHOWN,)), (1.0, ())])
def test_a_way_around_z_that_hardly_matters_leaves_no_doubt(weight, answer):
    past = torch.triu(torch.ones(D, D, dtype=torch.float64), 1)
    assert answered(bench_of(lambda m, z, x: m.out(z) + weight * (x @ past)).get) == answer


class Words(nn.Module):
    """A language model VAE whose next word is the one before plus one: z has nothing to say."""

    def __init__(self, words=5, length=8):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.embedding, self.mu = words, nn.Embedding(words, 4), nn.Linear(4 * length, L)
        self.from_z = nn.Linear(L, words)

    def forward(self, x):
        mu = self.mu(self.embedding(x).flatten(1))
        z = mu + torch.randn_like(mu)
        past = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)
        sharp = 9.0 * F.one_hot((past + 1) % self.words, self.words)
        logits = sharp + 0.1 * self.from_z(z)[:, None]
        nll = F.cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="sum")
        return nll + 0.5 * mu.square().sum()


def test_classes_are_measured_in_nats():
    start = torch.randint(0, 5, (2 * B, 1), generator=torch.Generator().manual_seed(3))
    x = (start + torch.arange(8)) % 5
    found = Bench(watch_model(Words(), [x[:B], x[B:]], lambda m, batch: m(batch))).get(Bypass)
    assert (found.leak, found.own) == (True, False)
    assert abs(found.gain) < 0.5
    assert found.side > 0.5


GIVEN = torch.linspace(-1, 1, 16 * 64).view(16, 64)  # other features for each example
NEW = {
    "z alone": (lambda m: m.decoder(torch.randn(16, 4)), True),
    "zeros beside it": (lambda m: m.decoder[-1](m.decoder[:-1](torch.randn(16, 4)) + torch.zeros(16, 64)), True),
    "features beside it": (lambda m: m.decoder[-1](m.decoder[:-1](torch.randn(16, 4)) + GIVEN), False),
    "nothing decoded": (lambda m: None, False),
}


@pytest.mark.parametrize("name", NEW)
def test_what_new_samples_are_decoded_with(name):
    generate, alone = NEW[name]

    def sampled(model):
        with torch.no_grad():
            generate(model)

    patient = Patient(decode=lambda m, z, h: m.decoder[-1](m.decoder[:-1](z) + h), generate=sampled, steps=20)
    found = Bench(patient.train()).get(Bypass)
    assert (found.leak, found.own, found.alone) == (True, True, alone)


class Steered(nn.Module):
    """One layer of a flow, steered by features of the data (Kingma et al. 2016)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.heads, self.features, self.layer = nn.Linear(D, 8), nn.Linear(D, 3), nn.Linear(2 + 3, 4)
        self.out, self.aside = nn.Linear(4, D), nn.Linear(3, D)
        self.double()

    def flow(self, z, x):
        kept, moved = z.chunk(2, 1)
        log_s, shift = self.layer(torch.cat([kept, self.features(x)], 1)).chunk(2, 1)
        log_s = torch.tanh(log_s)
        return torch.cat([moved * log_s.exp() + shift, kept], 1), log_s.sum(1)


@pytest.mark.parametrize(("aside", "counted", "leaks"), [(0, 1, False), (1, 1, True), (0, 0, True)])
def test_data_that_steer_a_flow_belong_to_the_encoder(aside, counted, leaks):
    """Not: what they add behind the flow; nor a layer of the decoder's that is as wide as z, and no flow."""

    def loss(m, x):
        mu, logvar = m.heads(x).chunk(2, 1)
        z, log_det = m.flow(mu + torch.randn_like(mu) * (0.5 * logvar).exp(), x)
        y = m.out(z) + aside * m.aside(m.features(x))
        rate = 0.5 * (z**2).sum(1) - 0.5 * logvar.sum(1) - counted * log_det
        return ((y - x).square().sum(1) / 2 + rate).mean()

    x = rows()
    bench = Bench(watch_model(Steered(), [x[:B], x[B:]], loss))
    try:
        found = bench.get(Bypass).leak
    except CannotMeasure:
        found = True
    assert found == leaks
    assert leaks or SHOWN in answered(bench.get)
