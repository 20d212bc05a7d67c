"""The probes of capacity against closed forms: the linear VAE, and a bent line that a linear decoder cannot draw."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.distributions as td
from linear import EIGENVALUES, ROWS, Linear, LinearVAE, rows_of
from torch import nn

from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.amortisation import Game
from whyvae.probes.floor import LinearFloor
from whyvae.probes.floor import LinearVAE as Optimum
from whyvae.probes.objective import Objective
from whyvae.probes.sides import Parts, Trials
from whyvae.probes.wider import STEPS, WiderBlocks, _gains, affordable
from whyvae.probes.widths import Widths
from whyvae.rules.capacity.decoder_too_small import DecoderTooSmall
from whyvae.verdict import Finding, Healthy
from whyvae.watch.direct import watch_model
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

D, LATENTS, S = len(EIGENVALUES), 4, 0.25


@pytest.fixture(scope="module", autouse=True)
def _tracebacks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYVAE_DEBUG", "1")
        yield


# ------------------------------------------------------------------ the linear floor
@pytest.mark.parametrize("s", [0.05, 0.5, 3.0, 9.0])
def test_the_optimum_on_its_own_rows_is_reverse_water_filling(s):
    rows = rows_of(Linear.optimum(s, LATENTS).C, 400)
    error, kl = Optimum.fitted(rows, s, LATENTS).terms(rows)
    kept = [v for v in EIGENVALUES[:LATENTS] if v > s]
    assert float(error.mean()) == pytest.approx(len(kept) * s + sum(EIGENVALUES) - sum(kept), rel=1e-6)
    assert float(kl.mean()) == pytest.approx(sum(0.5 * math.log(v / s) for v in kept), rel=1e-6, abs=1e-9)


def test_more_features_than_rows_give_the_same_optimum():
    rows = rows_of(Linear.optimum(S, LATENTS).C, 40)
    wide = torch.cat([rows, torch.zeros(40, 50, dtype=torch.float64)], 1)
    for one, two in zip(Optimum.fitted(rows, S, 3).terms(rows), Optimum.fitted(wide, S, 3).terms(wide), strict=True):
        assert torch.allclose(one, two)


def test_the_linear_optimum_stands_on_the_floor():
    floor = Linear.optimum(S, LATENTS).bench().get(LinearFloor)
    assert abs(floor.own) < 4 * floor.error + 0.1  # the floor's own fit to 3 of 4 examples costs it a little
    assert floor.active == LATENTS


def test_a_shrunk_decoder_falls_below_the_floor_by_what_it_loses():
    best, shrunk = Linear.optimum(S, LATENTS), Linear.optimum(S, LATENTS)
    shrunk.W = 0.5 * shrunk.W
    floor = shrunk.bench().get(LinearFloor)
    assert floor.own == pytest.approx((shrunk.sse - best.sse) / (2 * S), rel=0.15)
    assert floor.calibrated == pytest.approx(D / 2 * math.log(shrunk.sse / best.sse), rel=0.15)


# ------------------------------------------------------------------ widths
def step(encoder, decoder, latents=2, features=6):
    """A step `(model, x) -> loss` of plain layers of these hidden widths."""
    sizes = [features, *encoder], [latents, *decoder, features]
    enc = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(sizes[0], sizes[0][1:], strict=False)))
    heads = nn.Linear(sizes[0][-1], 2 * latents)
    dec = nn.Sequential(*(nn.Linear(a, b) for a, b in zip(sizes[1], sizes[1][1:], strict=False)))
    model = nn.ModuleList([enc, heads, dec]).double()

    def loss(_, x):
        mu, logvar = heads(enc(x)).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return (0.5 * (dec(z) - x).square().sum() + kl) / len(x)

    return model, loss


def widths(encoder, decoder):
    model, loss = step(encoder, decoder)
    rows = torch.randn(256, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return Bench(watch_model(model, rows, loss)).get(Widths)


def test_the_narrowest_hidden_layer_of_each_part():
    found = widths((9, 3, 12), (8, 5))
    assert (found.encoder, found.decoder, found.latents) == (3, 5, 2)
    assert found.encoder_at is not None
    assert found.encoder_at.file == found.decoder_at.file == __file__
    assert found.encoder_at.line < found.decoder_at.line


def test_heads_and_output_are_no_hidden_layers():
    found = widths((), ())
    assert (found.encoder, found.decoder) == (0, 0)
    assert found.decoder_at is not None


# ------------------------------------------------------------------ wider parts
class Curve(nn.Module):
    """x = a z u + b (z^2 - 1) v + noise, decoded by the best line; the encoder is told z by the first direction."""

    A, B, NOISE = 3.0, 0.8, 0.2

    def __init__(self):
        super().__init__()
        self.vae = LinearVAE(3, 1)
        precision = 1 + self.A**2 / self.s
        with torch.no_grad():
            self.vae.decoder.weight[0, 0] = self.A
            self.vae.mu.weight[0, 0] = self.A / self.s / precision
            self.vae.logvar.bias.fill_(-math.log(precision))

    s = NOISE**2

    @classmethod
    def rows(cls, n=ROWS):
        generator = torch.Generator().manual_seed(0)
        z, noise = (torch.randn(n, k, generator=generator, dtype=torch.float64) for k in (1, 3))
        return torch.cat([cls.A * z, cls.B * (z**2 - 1), 0 * z], 1) + cls.NOISE * noise

    def forward(self, x):
        output, mu, logvar = self.vae(x)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return ((output - x).square().sum() / (2 * self.s) + kl) / len(x)


@pytest.fixture(scope="module")
def curve():
    return Bench(watch_model(Curve(), Curve.rows(), lambda model, x: model(x)))


def test_a_bent_line_is_the_decoders_to_gain(curve):
    """E[r | z] = b (z^2 - 1): variance 2 b^2 (theory: Hermite polynomials), which is what a decoder can gain at most."""
    found = curve.get(WiderBlocks)
    most = 2 * Curve.B**2 / (2 * Curve.s)
    assert 0.5 * most < found.own.decoder < most + 2 * found.error
    assert abs(found.own.encoder) < 0.1 * most
    assert found.own.continued < 0.1 * most
    assert found.calibrated.decoder == pytest.approx(
        3 / 2 * math.log(1 + found.own.decoder * 2 * Curve.s / (3 * Curve.s)), rel=0.3
    )


def test_the_linear_optimum_on_gaussian_data_has_nothing_to_gain():
    bench = Linear.optimum(S, LATENTS).bench()
    found, trials = bench.get(WiderBlocks), Trials(bench._subject, bench.get(Objective))
    assert abs(WiderBlocks._tried(trials, trials.before(), STEPS).own.total) < 0.1
    # in the longer trial of linear parts, less than nothing: a few hundred rows learnt by heart
    assert found.own.total < 0.1
    assert (found.own.encoder, found.own.decoder) == (0, 0)
    assert found.rate == pytest.approx(float(Linear.optimum(S, LATENTS).kl.sum()), rel=0.1)


def test_a_trial_begins_at_the_models_own_function_and_leaves_it(curve):
    subject = curve._subject
    trials = Trials(subject, curve.get(Objective))
    before = trials.before()
    parameters = {i: p.detach().clone() for i, p in subject.replay.parameters.items()}
    none = trials.after(Parts(True, True), 0)
    assert torch.allclose(none.reconstruction, before.reconstruction)
    assert torch.allclose(none.kl, before.kl)
    trials.after(Parts(True, True), 3)
    assert all(torch.equal(p, parameters[i]) for i, p in subject.replay.parameters.items())


X, ADDED = torch.tensor([[0.0, 3.0, 1.0]]).double(), torch.tensor([[0.3, -0.2, 0.0]]).double()
COSTS = {  # an output, what it is without logarithm or logit, and -log p with `ADDED` on top
    "poisson": (torch.tensor([[-0.5, 1.0, 0.2]]), lambda y: -td.Poisson((y + ADDED).exp()).log_prob(X)),
    "poisson rates": (torch.tensor([[0.4, 2.5, 1.2]]), lambda y: -td.Poisson(y * ADDED.exp()).log_prob(X)),
    "bernoulli": (torch.tensor([[0.4, 0.9, 0.2]]), lambda y: -td.Bernoulli(logits=y.logit() + ADDED).log_prob(X.clamp(0, 1))),
    "bernoulli logits": (torch.tensor([[-0.5, 2.0, 0.2]]), lambda y: -td.Bernoulli(logits=y + ADDED).log_prob(X.clamp(0, 1))),
}  # fmt: skip


@pytest.mark.parametrize("family", COSTS)
def test_what_an_example_costs_in_a_trial_is_minus_log_p(curve, family):
    """By torch.distributions; counts less log x!, which no output changes."""
    game = Game(curve._subject, replace(curve.get(Objective), family=family), curve._subject.replay)
    output, wanted = COSTS[family]
    constant = torch.lgamma(X + 1).sum() if family.startswith("poisson") else 0.0
    found = game.cost(output.double(), X, ADDED)
    assert float(found) == pytest.approx(float(wanted(output.double()).sum() - constant), rel=1e-6)


class Counts(nn.Module):
    """Poisson counts of two factors, whose decoder has a hidden layer of `width`."""

    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(24, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.mu, self.logvar = nn.Linear(64, 3), nn.Linear(64, 3)
        self.decoder = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 24))

    def loss(self, x):
        h = self.body(x.log1p())
        mu, logvar = self.mu(h), self.logvar(h)
        rate = self.decoder(mu + (0.5 * logvar).exp() * torch.randn_like(mu)).clamp(max=6).exp()
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1)
        return (kl - td.Poisson(rate).log_prob(x).sum(1)).mean()

    @staticmethod
    def rows(n=3000):
        made = torch.Generator().manual_seed(4)
        z = torch.randn(n, 3, generator=made)
        return torch.poisson(
            (1 + torch.sin(1.5 * z) @ torch.randn(3, 24, generator=made)).exp().clamp(max=60), generator=made
        )


@pytest.mark.parametrize(("width", "small"), [(1, True), (64, False)])
def test_a_decoder_of_counts_that_is_too_narrow(width, small):
    with torch.random.fork_rng(), Watcher() as watcher:
        torch.manual_seed(0)
        rows, model = Counts.rows(), Counts(width)
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(1500):
            optimizer.zero_grad()
            model.loss(rows[torch.randint(len(rows), (64,))]).backward()
            optimizer.step()
    bench = Bench(Subject.of(watcher))
    assert bench.get(Objective).poisson
    verdict = bench.call(DecoderTooSmall.check)
    assert isinstance(verdict, Finding if small else Healthy)


def test_a_costly_step_is_tried_in_single_precision_and_gains_the_same(curve, monkeypatch):
    double = curve.get(WiderBlocks)
    assert Trials(curve._subject, curve.get(Objective)).replay.dtype == torch.float64
    monkeypatch.setattr("whyvae.watch.subject.COSTLY", 0)
    bench = Bench(watch_model(Curve(), Curve.rows(), lambda model, x: model(x)))
    assert Trials(bench._subject, bench.get(Objective)).replay.dtype == torch.float32
    single = bench.get(WiderBlocks)
    assert single.own.decoder == pytest.approx(double.own.decoder, rel=0.02)
    assert single.rate == pytest.approx(double.rate, rel=1e-4)


def test_what_two_parts_gain_is_shared_without_rest():
    shared = _gains({"continued": 1.0, "encoder": 2.0, "decoder": 5.0, "both": 11.0})
    assert (shared.encoder, shared.decoder, shared.total) == (3.5, 6.5, 10.0)


def test_a_part_that_only_hurts_gains_nothing():
    shared = _gains({"continued": -3.0, "encoder": -9.0, "decoder": 5.0, "both": 4.0})
    assert (shared.encoder, shared.decoder, shared.total) == (0.0, 5.0, 5.0)


def test_few_examples_are_too_few():
    bench = Linear.optimum(S, LATENTS).bench(48)
    with pytest.raises(CannotMeasure, match="different examples"):
        bench.get(WiderBlocks)


def test_parts_are_not_enlarged_under_a_prior_that_trials_do_not_know():
    """The KL of a trial is to N(0, I): a prior that a network makes of the condition is another."""
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {"heads": nn.Linear(D, 2 * LATENTS), "out": nn.Linear(LATENTS, D), "prior": nn.Linear(2, LATENTS)}
    )

    def loss(m, x):
        mu, logvar = m["heads"](x).chunk(2, 1)
        y = m["out"](mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        there = m["prior"](x[:, :2])
        return (y - x).square().sum() + 0.5 * ((mu - there) ** 2 + logvar.exp() - 1 - logvar).sum()

    rows = rows_of(Linear.optimum(S, LATENTS).C, 256).float()
    bench = Bench(watch_model(model, list(rows.split(64)), loss))
    assert bench.get(Objective).regulariser.conditional
    with pytest.raises(CannotMeasure, match="does not apply"):
        bench.get(WiderBlocks)


@pytest.mark.parametrize(("wanted", "seconds", "flops", "steps"), [
    (200, 0.01, 1e9, 200), (600, 0.01, 1e9, 600),  # cheap
    (200, 0.01, 6e9, 100), (600, 0.01, 6e9, 200),  # 6e11 and 1.2e12 of work
    (200, 0.05, 1e9, 120), (200, 0.0501, 1e9, 84), (600, 0.05, 1e9, 240),  # 6 s and 12 s, down to 60 times a power of 2 ** 0.5
    (200, 0.15, 1e9, 60), (200, 0.19, 1e9, 60), (600, 0.19, 1e9, 60),
])  # fmt: skip
def test_a_trial_has_the_steps_that_its_work_and_its_time_allow(wanted, seconds, flops, steps):
    assert affordable(SimpleNamespace(seconds=seconds, flops=flops), wanted) == steps


@pytest.mark.parametrize(("seconds", "flops"), [(0.21, 1e9), (0.01, 1.1e10)])
def test_too_costly_a_step_is_not_tried(seconds, flops):
    with pytest.raises(CannotMeasure, match="too costly"):
        affordable(SimpleNamespace(seconds=seconds, flops=flops), 200)
