"""Every probe against numbers known beforehand: closed forms, exact counts, and second derivations.

The linear VAE stands at its optimum without training; what it must measure is known in closed form (Lucas et al. 2019).
"""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from linear import EIGENVALUES, ROWS, UNBIASED, Linear, LinearVAE, rotation, rows_of
from sklearn.decomposition import PCA
from torch import nn

from whyvae.audit.cut import noise_like
from whyvae.audit.links import continuous_mean
from whyvae.probe import Bench, CannotMeasure
from whyvae.probes.amortisation import Amortisation
from whyvae.probes.balance import Balance
from whyvae.probes.collapse import score_spectrum
from whyvae.probes.data import Data, Spectrum, _continuous_variance, feeds_looked_at
from whyvae.probes.facts import LossFacts
from whyvae.probes.finite import Finiteness
from whyvae.probes.generation import AgainstLinear, Ladder
from whyvae.probes.heads import Heads
from whyvae.probes.latents import LatentUsage
from whyvae.probes.noise import Noise, _distance
from whyvae.probes.objective import Objective, audited_likelihood
from whyvae.probes.output import LastLayer, OutputActivation, OutputRange
from whyvae.probes.reconstruction import Reconstruction
from whyvae.probes.target import TargetMatch
from whyvae.probes.wiring import Wiring
from whyvae.score import score
from whyvae.watch.direct import BATCH, watch_model
from whyvae.watch.replay import Replay
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

D, LATENTS = len(EIGENVALUES), 6
VARIANCES = (0.05, 0.25, 0.5, 0.9, 1.5, 3.0, 7.0, 9.0)  # s; the last collapses
FOUR_DIGITS = {"rel": 1e-4, "abs": 1e-6}


@pytest.fixture(scope="module", autouse=True)
def _tracebacks():
    """Internal errors of probes come through."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYVAE_DEBUG", "1")
        yield


@pytest.fixture(scope="module")
def benches():
    """S -> the linear VAE at its optimum for s, ready to be measured."""
    return {s: Linear.optimum(s, LATENTS).bench() for s in VARIANCES}


def kept(s):
    return [value for value in EIGENVALUES[:LATENTS] if value > s]


def bench_of(model, x, loss):
    return Bench(watch_model(model, x, loss))


def vae(**parts):
    """A small step `(model, x) -> loss` with parts replaced; see `parts`."""
    heads = parts.get("heads", lambda mu, logvar: (mu, (0.5 * logvar).exp()))
    sample = parts.get("sample", lambda mu, sigma: mu + torch.randn_like(mu) * sigma)
    output = parts.get("output", lambda y: y)
    target = parts.get("target", lambda x: x)

    def loss(model, x):
        mu, sigma = heads(model.mu(x), model.logvar(x))
        y = output(model.decoder(sample(mu, sigma)))
        kl = 0.5 * (mu**2 + sigma**2 - 1).sum() - sigma.log().sum()
        return (0.5 * (y - target(x)).square().sum() + kl) / len(x)

    return loss


def random_model(features=6, latents=3, seed=0):
    torch.manual_seed(seed)
    model = LinearVAE(features, latents)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def plain_rows(features=6, n=2 * BATCH, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, features, generator=generator, dtype=torch.float64)


# ------------------------------------------------------------------ the linear VAE's optimum (3.1)
@pytest.mark.parametrize("s", VARIANCES)
def test_s_is_the_noise_variance_of_the_loss(benches, s):
    objective = benches[s].get(Objective)
    assert objective.noise_variance == pytest.approx(s, rel=1e-9)
    assert (objective.family, objective.regulariser.form) == ("gaussian", "exact")
    assert (objective.features, objective.latents, objective.batch) == (D, LATENTS, BATCH)


@pytest.mark.parametrize("s", VARIANCES)
def test_rate_is_half_the_log_of_eigenvalues_over_s(benches, s):
    usage = benches[s].get(LatentUsage)
    expected = [0.5 * math.log(value / s) for value in kept(s)]
    expected += [0.0] * (LATENTS - len(expected))
    assert usage.kl_per_unit == pytest.approx(expected, **FOUR_DIGITS)
    assert usage.rate == pytest.approx(sum(expected), **FOUR_DIGITS)
    assert (usage.active, usage.units, usage.rows) == (len(kept(s)), LATENTS, ROWS)


@pytest.mark.parametrize("s", VARIANCES)
def test_encodings_fill_the_prior_exactly(benches, s):
    usage = benches[s].get(LatentUsage)
    assert usage.gap == pytest.approx(0.0, abs=1e-9)
    smallest = math.sqrt(min(1.0, s / EIGENVALUES[0]))
    assert usage.smallest_sigma == pytest.approx(smallest, **FOUR_DIGITS)
    assert usage.negative_sigma == 0


def test_gap_of_scaled_and_shifted_encodings():
    """Encodings N(m, c): KL per unit (c + m^2 - 1 - log c) / 2."""
    linear = Linear.optimum(0.25, 3, eigenvalues=(4.0, 2.0, 1.0, 0.1))
    linear.A, linear.T = linear.A * 2, linear.T * 4  # aggregated variance 4 each
    model = linear.model()
    with torch.no_grad():
        model.mu.bias.fill_(0.7)
    usage = bench_of(model, rows_of(linear.C), linear.loss).get(LatentUsage)
    assert usage.gap == pytest.approx(1.5 * (4 + 0.49 - 1 - math.log(4)), **FOUR_DIGITS)
    assert usage.gap_diagonal == pytest.approx(usage.gap, **FOUR_DIGITS)


def test_gap_of_correlated_encodings():
    """Standardised encodings with correlation rho in pairs: -log(1 - rho^2) / 2 a pair, that no unit shows alone."""
    linear = Linear.optimum(0.25, 2, eigenvalues=(4.0, 2.0, 1.0, 0.1))
    rho, noise = 0.8, 0.1
    mixed = torch.tensor([[1.0, 0.0], [rho / (1 - noise), 0.0]], dtype=torch.float64)
    mixed[1, 1] = math.sqrt(1 - (rho / (1 - noise)) ** 2)
    whiten = torch.linalg.inv(torch.linalg.cholesky(linear.A @ linear.C @ linear.A.T))
    linear.A, linear.T = math.sqrt(1 - noise) * mixed @ whiten @ linear.A, torch.full((2,), noise, dtype=torch.float64)
    usage = bench_of(linear.model(), rows_of(linear.C), linear.loss).get(LatentUsage)
    assert usage.gap == pytest.approx(-0.5 * math.log(1 - rho**2), **FOUR_DIGITS)
    assert usage.gap_diagonal == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("s", VARIANCES)
def test_squared_error_is_s_per_active_unit_and_the_rest(benches, s):
    """Tolerance: 4 standard errors of the average over eps (the data's part is exact)."""
    reconstruction = benches[s].get(Reconstruction)
    k, rest = len(kept(s)), sum(EIGENVALUES) - sum(kept(s))
    linear = Linear.optimum(s, LATENTS)
    assert linear.sse == pytest.approx(k * s + rest, rel=1e-9)  # the oracle's two forms agree
    residual = linear.C - 2 * linear.W @ linear.A @ linear.C
    residual += linear.W @ linear.A @ linear.C @ linear.A.T @ linear.W.T
    noise = (linear.W * linear.T) @ linear.W.T
    variance = 2 * (noise @ noise).trace() + 4 * (noise @ residual).trace()
    tolerance = 4 * math.sqrt(float(variance) / ROWS)
    assert reconstruction.sse == pytest.approx(linear.sse, abs=tolerance + 1e-9)
    assert reconstruction.mse == reconstruction.sse / D
    assert reconstruction.kept == pytest.approx(1 - reconstruction.sse / sum(EIGENVALUES), rel=1e-9, abs=1e-9)


def test_squared_error_of_these_very_draws():
    linear = Linear.optimum(0.5, LATENTS)
    bench = linear.bench()
    x = rows_of(linear.C)
    draws = torch.cat([noise_like(bench._subject.lineage, i) for i in range(ROWS // BATCH)])
    y = (x @ linear.A.T + draws * linear.T.sqrt()) @ linear.W.T
    expected = float((y - x).square().sum(1).mean())
    assert bench.get(Reconstruction).sse == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("s", VARIANCES)
def test_spectrum_counts_the_directions_worth_a_latent(benches, s):
    spectrum = benches[s].get(Spectrum)
    assert spectrum.eigenvalues == pytest.approx([v * UNBIASED for v in EIGENVALUES], rel=1e-9)
    assert spectrum.total == pytest.approx(sum(EIGENVALUES) * UNBIASED, rel=1e-9)
    assert spectrum.threshold == pytest.approx(EIGENVALUES[0] * UNBIASED, rel=1e-9)
    wanted = sum(value > s for value in EIGENVALUES)
    assert spectrum.above(s * UNBIASED * (1 - 1e-9), bernoulli=False) == wanted + (s in EIGENVALUES)
    assert spectrum.above(s * UNBIASED * (1 + 1e-9), bernoulli=False) == wanted


@pytest.mark.parametrize(("share", "collapsed"), [(0.999, False), (1.001, True)])
def test_collapse_is_predicted_from_the_largest_eigenvalue_on(share, collapsed):
    s = EIGENVALUES[0] * UNBIASED * share
    balance = Linear.optimum(s, LATENTS).bench().get(Balance)
    assert balance.collapse_predicted is collapsed
    assert balance.s == pytest.approx(s, rel=1e-9)
    assert balance.threshold == pytest.approx(EIGENVALUES[0] * UNBIASED, rel=1e-9)


@pytest.mark.parametrize("s", [0.05, 0.25, 1.5])
def test_nats_lost_by_a_wrong_s(benches, s):
    """Equal to the profile likelihood: D/2 log of the MSE against the user's Gaussian at s."""
    balance, reconstruction = benches[s].get(Balance), benches[s].get(Reconstruction)
    at_s = reconstruction.sse / (2 * s) + D / 2 * math.log(s)
    at_best = D / 2 + D / 2 * math.log(reconstruction.mse)
    assert balance.nats_lost == pytest.approx(at_s - at_best, rel=1e-9)
    assert balance.fitting == reconstruction.mse
    assert balance.reachable == pytest.approx(sum(EIGENVALUES[LATENTS:]) * UNBIASED / D, rel=1e-6)
    assert balance.rate == pytest.approx(sum(0.5 * math.log(v / s) for v in kept(s)), rel=1e-4)


def test_fixed_point_of_s_is_the_discarded_variance():
    """At s = mean of the dropped eigenvalues, s = MSE: nothing is lost."""
    s = sum(EIGENVALUES[LATENTS:]) / (D - LATENTS)
    balance = Linear.optimum(s, LATENTS).bench().get(Balance)
    assert Linear.optimum(s, LATENTS).sse / D == pytest.approx(s, rel=1e-12)
    assert balance.fitting == pytest.approx(s, rel=0.02)  # noise of 15 360 draws
    assert balance.nats_lost == pytest.approx(0, abs=1e-3)


STRONG_AND_WEAK = (100.0, 2.0, 1.5, 1.0, 0.8, 0.6, *[0.01] * 20)


def test_one_direction_holds_the_variance_and_the_others_what_examples_are_told_by():
    """At s = 3 the optimum keeps 1 of 6 directions and 9/10 of the variance; what as many latents could do is told by
    scikit-learn's principal components.
    """
    bench = Linear.optimum(3.0, 6, STRONG_AND_WEAK).bench()
    balance, against = bench.get(Balance), bench.get(AgainstLinear)
    assert balance.kept > 0.9
    assert balance.blurred
    assert balance.too_heavy
    assert not balance.collapse_predicted
    real = rows_of(Linear.optimum(3.0, 6, STRONG_AND_WEAK).C)
    components = PCA(6).fit(real)
    rebuilt = torch.from_numpy(components.inverse_transform(components.transform(real.numpy())))
    assert against.linear == pytest.approx(score(real, rebuilt).quality, abs=0.05)
    assert balance.realness == against.share == against.reconstruction / against.linear


def test_reconstructions_are_compared_where_the_weight_is_far_too_heavy_only():
    balance = Linear.optimum(0.05, 6, STRONG_AND_WEAK).bench().get(Balance)
    assert math.isnan(balance.realness)
    assert not balance.too_heavy


def test_facts_quote_the_audit(benches):
    facts = benches[0.5].get(LossFacts)
    assert facts.noise_variance == pytest.approx(0.5, rel=1e-9)
    assert (facts.likelihood, facts.limits) == ("Gaussian (squared error)", ())


# ---------------------------------------------------------------- BCE
def equicorrelated(features, common, alone, copies):
    """Bits with mean 1/2 and correlation rho = 2 common / (2^D alone + 2 common), exactly."""
    patterns = torch.tensor(np.indices((2,) * features).reshape(features, -1).T).double()
    ends = torch.tensor([[0.0] * features, [1.0] * features], dtype=torch.float64)
    rows = torch.cat([patterns.repeat(alone, 1), ends.repeat(common, 1)]).repeat(copies, 1)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]


@pytest.mark.parametrize(("common", "alone"), [(8, 3), (24, 1), (0, 4)])
def test_bernoulli_threshold_of_equicorrelated_bits(common, alone):
    size = 16 * alone + 2 * common
    x = equicorrelated(4, common, alone, 1280 // size)
    rho = 2 * common / size
    assert len(x) == 1280

    def loss(model, x):
        logits, mu, logvar = model(x)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + 1.5 * kl) / len(x)

    bench = bench_of(random_model(4, 2), x, loss)
    spectrum = bench.get(Spectrum)
    unbiased = 1280 / 1279
    assert spectrum.threshold_bernoulli == pytest.approx((1 + 3 * rho) * unbiased, rel=1e-9)
    assert spectrum.bernoulli_eigenvalues[1:] == pytest.approx([(1 - rho) * unbiased] * 3, rel=1e-9)
    assert spectrum.above(1.5, bernoulli=True) == int(1 + 3 * rho > 1.5)
    assert bench.get(Objective).noise_variance == pytest.approx(1.5, rel=1e-9)
    assert bench.get(Balance).collapse_predicted is (1 + 3 * rho < 1.5)


def test_bernoulli_threshold_of_grey_data_uses_p_not_the_variance():
    x = torch.rand(1280, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p = x.mean(0)
    scale = (p * (1 - p)).sqrt()
    expected = np.linalg.eigvalsh(np.cov(x.numpy().T) / np.outer(scale, scale))[::-1]
    spectrum = bench_of(random_model(3, 2), x, vae()).get(Spectrum)
    assert spectrum.bernoulli_eigenvalues == pytest.approx(expected.tolist(), rel=1e-9)


def test_bernoulli_threshold_needs_data_between_0_and_1():
    spectrum = bench_of(random_model(3, 2), plain_rows(3, 1280), vae()).get(Spectrum)
    assert math.isnan(spectrum.threshold_bernoulli)
    assert spectrum.bernoulli_eigenvalues == ()


# ------------------------------------------------------------------ amortisation gap (3.2)
def weakened(linear):
    linear.A = 0.5 * linear.A


def widened(linear):
    linear.T = 3 * linear.T


def cut_to_two_units(linear):
    linear.A = linear.A * (torch.arange(LATENTS) < 2)[:, None]


def disturbed(linear):
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(linear.A.shape, generator=generator, dtype=torch.float64)
    linear.A = linear.A + 0.1 * noise


def thrown_far(linear):
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn(linear.A.shape, generator=generator, dtype=torch.float64)
    linear.A = linear.A + 0.3 * noise


def gap_of(linear, monkeypatch):
    skip_training(monkeypatch)
    return linear.bench(2 * BATCH).get(Amortisation)


def skip_training(monkeypatch):
    monkeypatch.setattr("whyvae.probes.amortisation._after_encoder_training", lambda *_: (math.nan, math.nan))


@pytest.mark.parametrize("s", [0.25, 0.9])
def test_no_gap_at_the_optimum(s, monkeypatch):
    measured = gap_of(Linear.optimum(s, LATENTS), monkeypatch)
    assert measured.gap == pytest.approx(0, abs=1e-4)
    assert measured.own == pytest.approx(0, abs=1e-4)
    assert measured.rate == pytest.approx(sum(0.5 * math.log(v / s) for v in kept(s)), rel=1e-6)


@pytest.mark.parametrize("fault", [weakened, widened, cut_to_two_units, disturbed, thrown_far])
@pytest.mark.parametrize("s", [0.25, 0.9])
def test_gap_is_the_closed_form(s, fault, monkeypatch):
    """What is left is the local optimiser's: a few 1e-3 nats."""
    linear = Linear.optimum(s, LATENTS)
    fault(linear)
    measured = gap_of(linear, monkeypatch)
    assert measured.gap == pytest.approx(linear.gap, rel=5e-3, abs=3e-3)
    assert measured.own == pytest.approx(linear.gap_at_s, rel=2e-3, abs=3e-3)


def test_gap_with_a_correlated_posterior(monkeypatch):
    """Turned latents: the family's own (mean-field) loss is no part of the gap."""
    linear = Linear.optimum(0.25, LATENTS, turn=rotation(LATENTS, seed=3))
    assert gap_of(linear, monkeypatch).gap == pytest.approx(0, abs=1e-3)
    disturbed(linear)
    assert gap_of(linear, monkeypatch).gap == pytest.approx(linear.gap, rel=5e-3)


def test_closed_form_gap_is_theory_3_2():
    """The oracle's oracle: exact ELBOs against tr(L (A-M) C (A-M)') / 2 + the variances' part."""
    linear = Linear.optimum(0.25, LATENTS)
    disturbed(linear)
    widened(linear)
    mean, best = linear.best()
    precision = torch.eye(LATENTS, dtype=torch.float64) + linear.W.T @ linear.W / linear.s
    off = linear.A - mean
    ratio = linear.T / best
    expected = 0.5 * float((precision @ off @ linear.C @ off.T).trace())
    expected += 0.5 * float((ratio - ratio.log() - 1).sum())
    assert linear.gap_at_s == pytest.approx(expected, rel=1e-9)


class Bottleneck(LinearVAE):
    """mu through `rank` numbers."""

    def __init__(self, features, latents, rank):
        super().__init__(features, latents)
        self.mu = nn.Sequential(nn.Linear(features, rank, bias=False), nn.Linear(rank, latents)).double()


def test_a_rank_limited_encoder_keeps_its_gap_when_trained_on():
    """Two numbers carry the two directions of largest variance: training gains nothing."""
    linear = Linear.optimum(0.25, LATENTS)
    model = Bottleneck(D, LATENTS, 2)
    full, first = linear.A.clone(), torch.eye(LATENTS, dtype=torch.float64)[:, :2]
    cut_to_two_units(linear)
    with torch.no_grad():
        model.mu[0].weight.copy_(full[:2])
        model.mu[1].weight.copy_(first)
        model.mu[1].bias.zero_()
        model.logvar.bias.copy_(linear.T.log())
        model.logvar.weight.zero_()
        model.decoder.weight.copy_(linear.W)
        model.decoder.bias.zero_()
    measured = bench_of(model, rows_of(linear.C), linear.loss).get(Amortisation)
    assert measured.gap == pytest.approx(linear.gap, rel=0.1)  # these are 256 rows out of 1536
    assert measured.after_training == pytest.approx(linear.gap, rel=0.1)
    assert measured.own_after_training == pytest.approx(linear.gap_at_s, rel=0.1)


def test_a_lagging_encoder_closes_its_gap_when_trained_on():
    linear = Linear.optimum(0.25, LATENTS)
    disturbed(linear)
    measured = linear.bench().get(Amortisation)
    assert measured.gap == pytest.approx(linear.gap, rel=0.1)
    assert measured.after_training < 0.2 * measured.gap
    assert measured.own_after_training < 0.2 * measured.own


def test_gap_of_a_bernoulli_decoder_with_one_latent(monkeypatch):
    """Quadrature over z and a full optimiser per example; in the user's own objective."""
    skip_training(monkeypatch)
    x = (plain_rows(8) + 0.8 * plain_rows(1, seed=1) > 0).double()
    model = random_model(8, 1)
    with torch.no_grad():
        model.decoder.weight.fill_(1.4)

    def loss(model, x):
        logits, mu, logvar = model(x)
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return (F.binary_cross_entropy_with_logits(logits, x, reduction="sum") + kl) / len(x)

    nodes, weights = (torch.tensor(v) for v in np.polynomial.hermite_e.hermegauss(40))
    weights = weights / weights.sum()

    def objective(mu, log_sigma):
        logits = model.decoder(mu + log_sigma.exp() * nodes[:, None, None])
        nll = F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(2)
        kl = 0.5 * (mu**2 + (2 * log_sigma).exp() - 1) - log_sigma
        return (weights @ nll).sum() + kl.sum()

    with torch.no_grad():
        mu, log_sigma = model.mu(x), 0.5 * model.logvar(x)
        start = objective(mu, log_sigma)
    leaves = [mu.clone().requires_grad_(), log_sigma.clone().requires_grad_()]
    solver = torch.optim.LBFGS(leaves, max_iter=300, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        value = objective(*leaves)
        value.backward(inputs=leaves)
        return value

    solver.step(closure)
    expected = float(start - objective(*leaves).detach()) / len(x)
    measured = bench_of(model, x, loss).get(Amortisation)
    assert expected > 0.5
    assert measured.gap == measured.own == pytest.approx(expected, rel=1e-2)


# ------------------------------------------------------------------ output
def test_unreachable_mass_of_a_sigmoid_output():
    """Per example: 3 numbers 0.5 above 1, 2 numbers 2 below 0, one inside."""
    x = torch.tensor([1.5, 1.5, 1.5, -2.0, -2.0, 0.4], dtype=torch.float64).repeat(BATCH, 1)
    x = x[:, torch.randperm(6, generator=torch.Generator().manual_seed(0))]
    bench = bench_of(random_model(), x, vae(output=torch.sigmoid))
    reach = bench.get(OutputRange)
    assert (reach.low, reach.high) == pytest.approx((0, 1), abs=1e-12)
    assert reach.unreachable == pytest.approx(3 * 0.25 + 2 * 4, rel=1e-9)
    assert reach.outside == pytest.approx(5 / 6)
    assert reach.activation == "sigmoid"


@pytest.mark.parametrize(
    ("output", "names", "low", "high"),
    [
        (lambda y: y, (), -math.inf, math.inf),
        (torch.sigmoid, ("sigmoid",), 0, 1),
        (torch.tanh, ("tanh",), -1, 1),
        (torch.relu, ("relu",), 0, math.inf),
        (F.softplus, ("softplus",), 0, math.inf),
        (lambda y: torch.clamp(y, -0.5, 2.0), ("clamp",), -0.5, 2),
        (lambda y: 3 * torch.sigmoid(y) - 1, ("sigmoid",), -1, 2),
        (lambda y: torch.softmax(y, -1), ("softmax",), 0, 1),
        (lambda y: 7 * torch.softmax(y, 1), ("softmax",), 0, 7),
        (lambda y: torch.log_softmax(y, -1), ("log_softmax",), -math.inf, 0),
        (lambda y: torch.sigmoid(torch.tanh(y)), ("tanh", "sigmoid"), 1 / (1 + math.e), None),
    ],
)
def test_ranges_of_output_activations(output, names, low, high):
    found = bench_of(random_model(), plain_rows(), vae(output=output)).get(OutputActivation)
    assert found.activations == names
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(math.e / (1 + math.e) if high is None else high, abs=1e-9)


@pytest.mark.parametrize(("output", "asked"), [
    (lambda y: 127.5 + 127.5 * y, lambda x: (x - 127.5) / 127.5), (lambda y: 50 * y, lambda x: x / 50),
    (lambda y: 255 * torch.sigmoid(y), lambda x: math.nan * x),
    (lambda y: y, None), (lambda y: 255 * F.softplus(y), None),
])  # fmt: skip
def test_what_the_last_layer_has_to_put_out(output, asked):
    x = 127.5 + 40 * plain_rows()
    bench = bench_of(random_model(), x, vae(output=output))
    if asked is None:
        with pytest.raises(CannotMeasure):
            bench.get(LastLayer)
        return
    expected = float(asked(x.double()).square().mean().sqrt())  # over all rows, of which a step has some
    assert bench.get(LastLayer).rms == pytest.approx(expected, rel=0.05, nan_ok=True)


@pytest.mark.parametrize(("output", "logged"), [
    (lambda y: torch.softmax(y, -1), False), (lambda y: torch.softmax(y, -1).log(), True),
    (lambda y: torch.softmax(y, -1) - torch.softmax(y, -1).logsumexp(-1, keepdim=True), False),  # Categorical(logits=...)
    (lambda y: (torch.softmax(y, -1) + 1e-6).log(), True), (lambda y: y.exp().log1p().sigmoid(), False),
])  # fmt: skip
def test_a_logarithm_behind_the_last_activation(output, logged):
    assert bench_of(random_model(), plain_rows(), vae(output=output)).get(OutputActivation).logged is logged


# ------------------------------------------------------------------ noise
def test_kolmogorov_distance_is_scipys():
    for seed in range(6):  # above and below the normal's curve
        draws = plain_rows(1, 77, seed)[:, 0]
        expected = scipy.stats.kstest(draws, "norm").statistic
        assert _distance(draws) == pytest.approx(expected, rel=1e-9)


def test_kolmogorov_level():
    """Of 1000 honest noises 5 % exceed the 5 % value, and none the probe's: its level is 1e-6."""
    generator = torch.Generator().manual_seed(3)
    draws = torch.randn(1000, 1000, generator=generator, dtype=torch.float64)
    scaled = np.array([_distance(row) * math.sqrt(1000) for row in draws])
    found = bench_of(random_model(), plain_rows(), vae()).get(Noise)
    critical = found.critical * math.sqrt(found.count)
    assert critical == pytest.approx(scipy.special.kolmogi(1e-6), abs=1e-3)
    assert scaled.max() < critical
    assert 0.03 < (scaled > scipy.special.kolmogi(0.05)).mean() < 0.07


def test_honest_noise():
    found = bench_of(random_model(), plain_rows(), vae()).get(Noise)
    n = 16 * BATCH * 3
    assert (found.drawn_by, found.uniform, found.shared, found.count) == (
        "randn_like", False, "", n,
    )  # fmt: skip
    assert found.kolmogorov < found.critical
    assert abs(found.mean) < 4 / math.sqrt(n)
    assert abs(found.sd - 1) < 4 / math.sqrt(2 * n)


@pytest.mark.parametrize(
    ("draw", "mean", "sd", "distance"),
    [
        (torch.rand_like, 0.5, 12**-0.5, 0.5),
        (lambda mu: torch.rand_like(mu) * 12**0.5 - 3**0.5, 0.5, 12**-0.5, 0.5),
        (lambda mu: torch.empty_like(mu).normal_(0, 2), 0, 2, 0.1611),
        (lambda mu: torch.empty_like(mu).normal_(1, 1), 1, 1, 0.3829),
    ],
)
def test_dishonest_noise(draw, mean, sd, distance):
    """Distances to N(0, 1): uniform 1/2 (at 0), N(0, 4) at |x| = 1.36, N(1, 1) 2 Phi(1/2) - 1."""
    step = vae(sample=lambda mu, sigma: mu + sigma * draw(mu))
    found = bench_of(random_model(), plain_rows(), step).get(Noise)
    assert found.kolmogorov > found.critical
    assert found.kolmogorov == pytest.approx(distance, abs=0.02)
    assert (found.mean, found.sd) == pytest.approx((mean, sd), abs=0.05)
    assert found.uniform is (distance == 0.5)


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 3), "3 numbers"), ((BATCH, 1), f"{BATCH} numbers"), ((1,), "1 numbers")],
)
def test_shared_noise(shape, words):
    step = vae(sample=lambda mu, sigma: mu + sigma * torch.randn(shape, dtype=mu.dtype))
    found = bench_of(random_model(), plain_rows(), step).get(Noise)
    assert found.shared.startswith(words)
    assert found.shared.endswith(f"for {3 * BATCH} latents [{BATCH}, 3]")


def test_no_noise():
    found = bench_of(random_model(), plain_rows(), vae(sample=lambda mu, sigma: mu)).get(Noise)
    assert (found.drawn_by, found.count) == ("", 0)


# ------------------------------------------------------------------ heads
def sd(logvar):
    return (0.5 * logvar).exp()


@pytest.mark.parametrize(
    ("heads", "mu", "log_sigma"),
    [
        (lambda m, v: (m, sd(v)), (None, None), (None, None)),
        (lambda m, v: (torch.relu(m), sd(v)), (0, None), (None, None)),
        (lambda m, v: (torch.tanh(m), sd(v)), (-1, 1), (None, None)),
        (lambda m, v: (3 * torch.tanh(m), sd(v)), (-3, 3), (None, None)),
        (lambda m, v: (m, sd(F.softplus(v))), (None, None), (0, None)),
        (lambda m, v: (m, sd(torch.relu(v))), (None, None), (0, None)),
        (lambda m, v: (m, sd(torch.clamp(v, -4, 1))), (None, None), (-2, 0.5)),
        (lambda m, v: (m, sd(torch.tanh(v))), (None, None), (-0.5, 0.5)),
        (lambda m, v: (m, F.softplus(v) + 0.1), (None, None), (math.log(0.1), None)),
    ],
)
def test_ranges_of_heads(heads, mu, log_sigma):
    """Walls to 4 digits; where there is none (None), pushes of 1000 go beyond 3."""
    found = bench_of(random_model(), plain_rows(), vae(heads=heads)).get(Heads)
    reached = (found.mu_low, found.mu_high, found.log_sigma_low, found.log_sigma_high)
    for value, wall, side in zip(reached, (*mu, *log_sigma), (-1, 1, -1, 1), strict=True):
        if wall is None:
            assert side * value > 3
        else:
            assert value == pytest.approx(wall, abs=1e-4)


@pytest.mark.parametrize("unit", ["mu", "log_sigma"])
def test_share_of_encodings_at_a_wall(unit):
    """Half of the numbers under a relu are 0, and what made them so is named."""
    fence = {
        "mu": lambda m, v: (torch.relu(m), sd(v)),
        "log_sigma": lambda m, v: (m, sd(torch.relu(v))),
    }[unit]
    half = plain_rows()
    x = torch.stack([half, -half], 1).flatten(0, 1)  # x and -x in the same batch
    model = random_model()
    with torch.no_grad():
        model.mu.bias.zero_()
        model.logvar.bias.zero_()
        model.mu.weight.mul_(100)
        model.logvar.weight.mul_(100)
    found = bench_of(model, x, vae(heads=fence)).get(Heads)
    share, other = (found.mu_at_wall, found.log_sigma_op) if unit == "mu" else (found.log_sigma_at_wall, found.mu_op)
    assert 0.5 <= share < 0.53  # "at the wall" is within 1 % of what the encodings span
    assert (getattr(found, f"{unit}_op"), other) == ("relu", "")
    assert getattr(found, f"{unit}_at") is not None


# ------------------------------------------------------------------ target
@pytest.mark.parametrize(("a", "b"), [(2.0, -1.0), (1 / 255, 0.0), (-1.0, 1.0)])
def test_affine_target_is_recovered(a, b):
    found = bench_of(random_model(), plain_rows(), vae(target=lambda x: a * x + b)).get(TargetMatch)
    assert (found.slope, found.offset) == pytest.approx((a, b), rel=1e-9, abs=1e-9)
    assert (found.affine, found.exact, found.comparable) == (True, False, True)


def test_own_target():
    found = bench_of(random_model(), plain_rows(), vae()).get(TargetMatch)
    assert (found.exact, found.own_row, found.own_feature) == (True, 1.0, 1.0)
    assert (found.slope, found.offset) == pytest.approx((1, 0), abs=1e-12)
    assert (found.reordered, found.broadcast) == (False, "")


def test_shuffled_target():
    order = torch.roll(torch.arange(BATCH), 1)
    found = bench_of(random_model(), plain_rows(), vae(target=lambda x: x[order])).get(TargetMatch)
    assert found.own_row <= 3 / BATCH  # a neighbour may resemble
    assert (found.exact, found.affine, found.batch) == (False, False, BATCH)


def test_shuffled_features():
    found = bench_of(random_model(), plain_rows(), vae(target=lambda x: x[:, [1, 2, 3, 4, 5, 0]])).get(TargetMatch)
    assert found.own_feature == 0.0
    assert found.exact is False


def test_flipped_target_is_reordered():
    found = bench_of(random_model(), plain_rows(), vae(target=lambda x: x.flip(1))).get(TargetMatch)
    assert found.reordered is True


def test_broadcast_target():
    found = bench_of(random_model(), plain_rows(), vae(target=lambda x: x[:, None])).get(TargetMatch)
    assert found.broadcast.endswith(f"is blown up to {[BATCH, BATCH, 6]}")


# ------------------------------------------------------------------ wiring and finiteness
def trained(loss, optimised=None, *, steps=3, lr=0.0, zero_grad=True):
    """The subject of a short run on one batch; `loss` is given (model, x, step)."""
    model = random_model()
    x = plain_rows(n=32)
    with torch.random.fork_rng(), Watcher() as watcher:
        optimizer = torch.optim.SGD(optimised(model) if optimised else model.parameters(), lr=lr)
        for step in range(steps):
            torch.manual_seed(0)
            if zero_grad:
                optimizer.zero_grad()
            loss(model, x, step).backward()
            optimizer.step()
    return Subject.of(watcher)


def always(loss):
    return lambda model, x, step: loss(model, x)


def test_share_of_stale_gradients():
    """The same gradient each step, never cleared: t of t + 1 parts are left over at step t."""
    subject = trained(always(vae()), steps=12, zero_grad=False)
    known = {step.index: step.stale for step in subject.steps if step.index > 0}
    assert len(known) >= 2
    assert known == pytest.approx({t: t / (t + 1) for t in known}, rel=1e-5)
    wiring = Bench(subject).get(Wiring)
    assert wiring.stale == sorted(known.values())[len(known) // 2]
    assert wiring.stale_steps == len(known)


def test_cleared_gradients_leave_nothing():
    assert Bench(trained(always(vae()))).get(Wiring).stale == 0.0


def test_share_of_unstepped_parameters():
    """6 -> 3 twice (42 numbers) is stepped, 3 -> 6 (24 numbers) is not."""

    def encoder(model):
        return [*model.mu.parameters(), *model.logvar.parameters()]

    wiring = Bench(trained(always(vae()), encoder, lr=1e-3)).get(Wiring)
    assert wiring.parameters == 66
    assert wiring.unstepped_share == pytest.approx(24 / 66, rel=1e-12)
    assert len(wiring.unstepped) == 2
    assert wiring.optimizers == ("SGD",)


def test_all_stepped():
    wiring = Bench(trained(always(vae()), lr=1e-3)).get(Wiring)
    assert (wiring.unstepped, wiring.without_gradient) == ((), ())


def test_share_without_gradient():
    """The decoder's bias (6 of 66 numbers) reaches the loss only through `detach`."""

    def step(model, x, step):
        mu, logvar = model.mu(x), model.logvar(x)
        z = mu + torch.randn_like(mu) * sd(logvar)
        y = z @ model.decoder.weight.T + model.decoder.bias.detach()
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return (0.5 * (y - x).square().sum() + kl) / len(x)

    wiring = Bench(trained(step, lr=1e-3)).get(Wiring)
    assert wiring.without_gradient_share == pytest.approx(6 / 66, rel=1e-12)
    assert len(wiring.without_gradient) == 1


def test_a_gradient_of_zero_behind_dead_units_is_no_wiring():
    def dead(y):
        return torch.relu(y - 1e3)

    wiring = Bench(trained(always(vae(output=dead)), lr=1e-3)).get(Wiring)
    assert wiring.without_gradient == ()


def _cut(z, cut):
    return z.detach() if cut else z


@pytest.mark.parametrize("cut", [False, True])
def test_detached_latent(cut):
    loss = vae(sample=lambda mu, sigma: _cut(mu + torch.randn_like(mu) * sigma, cut))
    wiring = bench_of(random_model(), plain_rows(), loss).get(Wiring)
    assert wiring.reconstruction_reaches_encoder is not cut
    assert wiring.output_depends_on_latent > 0


@pytest.mark.parametrize("cut", [False, True])
def test_detached_latent_of_a_decoder_that_ignores_it(cut):
    model = random_model()
    with torch.no_grad():
        model.decoder.weight.zero_()
    loss = vae(sample=lambda mu, sigma: _cut(mu + torch.randn_like(mu) * sigma, cut))
    assert bench_of(model, plain_rows(), loss).get(Wiring).reconstruction_reaches_encoder is not cut


def test_first_step_and_function_that_are_not_finite():
    def step(model, x, step):
        factor = torch.tensor(1 - 0.5 * step, dtype=torch.float64)
        return vae()(model, x) * torch.log(factor).exp()  # log 0 = -inf at step 2, exp gives 0

    def broken(model, x, step):
        factor = torch.tensor(1.5 - step, dtype=torch.float64)
        return vae()(model, x) * torch.log(factor).exp()  # log(-0.5) at step 2

    found = Bench(trained(broken, steps=5, lr=1e-3)).get(Finiteness)
    assert (found.step, found.op, found.parameters_finite) == (2, "log", False)
    assert (found.steps, found.lr) == (5, 1e-3)
    healthy = Bench(trained(step, steps=2, lr=1e-3)).get(Finiteness)
    assert (healthy.step, healthy.op, healthy.parameters_finite) == (None, "", True)


# ------------------------------------------------------------------ data
@pytest.mark.parametrize("family", ["gaussian", "bernoulli logits"])
def test_the_threshold_of_a_loss_without_a_name_is_that_of_its_family(family):
    """Read off the loss at its best constant output, against the covariance in units of the known variance."""
    x, loss = plain_rows(), vae()
    if family != "gaussian":
        x = (x > 0.3).double()

    def bce(model, x):
        mu, logvar = model.mu(x), model.logvar(x)
        y = model.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        kl = 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum()
        return (3 * F.binary_cross_entropy_with_logits(y, x, reduction="sum") + kl) / len(x)

    subject = watch_model(random_model(), x, loss if family == "gaussian" else bce)
    found, spectrum = audited_likelihood(subject), Bench(subject).get(Spectrum)
    assert found.family == family
    known = spectrum.eigenvalues if family == "gaussian" else spectrum.bernoulli_eigenvalues
    values = score_spectrum(subject, found, feeds_looked_at(subject))
    assert values.tolist() == pytest.approx(list(known), rel=1e-4)


def test_spread_of_features():
    """Features that reach 1, 10 and 1000 from their median, and a constant one."""
    unit = torch.linspace(-1, 1, BATCH + 1, dtype=torch.float64)
    unit = unit[unit != 0]
    scale = torch.tensor([1.0, 10.0, 1000.0, 0.0], dtype=torch.float64)
    x = unit[:, None] * scale + 5
    data = bench_of(random_model(4, 2), x, vae()).get(Data)
    assert data.spread_ratio == pytest.approx(100, rel=1e-9)  # rarely lit pixels are small, and no fault
    assert (data.rows, data.shape, data.constant_features) == (BATCH, (4,), 1)
    assert (data.low, data.high) == pytest.approx((-995, 1005), rel=1e-9)
    assert data.mean == pytest.approx(5, rel=1e-9)
    assert data.input_rms == pytest.approx(float(x.square().mean().sqrt()), rel=1e-9)
    assert (data.not_finite, data.target_binary) == (0, False)


def test_the_size_of_the_input_is_that_which_the_first_layer_reads():
    x = plain_rows().abs() * 1e4
    loss = vae(target=lambda given: given.expm1() / 1e4)
    data = bench_of(random_model(), x, lambda m, x: loss(m, x.log1p())).get(Data)
    assert data.input_rms == pytest.approx(float(x.log1p().square().mean().sqrt()), rel=1e-6)
    assert data.target_rms == pytest.approx(float((x / 1e4).square().mean().sqrt()), rel=1e-6)
    assert data.entering == pytest.approx((float(x.log1p().min()), float(x.log1p().max())), rel=1e-6)
    reach = (x.log1p() - x.log1p().median(0).values).abs().amax(0)
    assert data.entering_spread == pytest.approx(float(reach.max() / reach.median()), rel=1e-6)


def test_gaps_that_the_script_fills_are_no_fault_of_the_data_and_no_other_target():
    x = plain_rows()
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.1] = math.nan
    loss = vae()
    bench = bench_of(random_model(), x, lambda m, x: loss(m, x.nan_to_num()))
    assert bench.get(Data).not_finite == 0
    match = bench.get(TargetMatch)
    assert match.comparable
    assert match.exact


def test_numbers_that_are_none():
    x = plain_rows()
    x[3, 2], x[200, 1] = math.nan, math.inf
    data = bench_of(random_model(), x, vae()).get(Data)
    assert data.not_finite == 4  # in the input, and again in the target


# ------------------------------------------------------------------ second derivations
def losses():
    """By name: (reconstruction, its weight, regulariser)."""

    def pieces(c1, c2, c3, c4):
        return lambda mu, sigma: (
            c1 * mu.square().sum() / 2 + c2 * sigma.square().sum() / 2 - c3 * sigma.log().sum() + c4 * mu.sum()
        )

    def squared(y, x):
        return (y - x).square().sum()

    def bce(y, x):
        return F.binary_cross_entropy_with_logits(y, x.sigmoid(), reduction="sum")

    return {
        "elbo": (squared, 0.5, pieces(1, 1, 1, 0)),
        "heavy KL": (squared, 3.0, pieces(7, 7, 7, 0)),
        "prior N(1, 4)": (squared, 1.0, pieces(0.5, 0.5, 2, -0.5)),
        "no mu": (squared, 1.0, pieces(0, 1, 1, 0)),
        "unequal": (squared, 1.0, pieces(2, 1, 0.5, 0.25)),
        "bce": (bce, 1.0, pieces(0.3, 0.3, 0.3, 0)),
    }


@pytest.mark.parametrize("name", losses())
def test_coefficients_are_finite_differences_of_the_loss(name):
    """Along random directions of the parameters, noise fixed, the model called as users do.

    c and c1..c4 are solved from differences of the loss and of its five terms: no gradient is used.
    """
    reconstruction, weight, regulariser = losses()[name]
    model, x = random_model(), plain_rows(n=BATCH)

    def parts(model, x):
        mu, logvar = model.mu(x), model.logvar(x)
        sigma = (0.5 * logvar).exp()
        return model.decoder(mu + torch.randn_like(mu) * sigma), mu, sigma

    def loss(model, x):
        y, mu, sigma = parts(model, x)
        return (weight * reconstruction(y, x) + regulariser(mu, sigma)) / len(x)

    objective = bench_of(model, x, loss).get(Objective)
    start = [p.detach().clone() for p in model.parameters()]
    generator = torch.Generator().manual_seed(1)
    rows = []
    for _ in range(12):
        ends = []
        way = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in start]
        for size in (1e-4, -1e-4):
            with torch.no_grad():
                for p, s, w in zip(model.parameters(), start, way, strict=True):
                    p.copy_(s + size * w)
                torch.manual_seed(0)
                value = loss(model, x)
                torch.manual_seed(0)
                y, mu, sigma = parts(model, x)
                scale = 0.5 if reconstruction.__name__ == "squared" else 1.0  # psi is y - x
                terms = [
                    scale * reconstruction(y, x), mu.square().sum() / 2, sigma.square().sum() / 2,
                    -sigma.log().sum(), mu.sum(),
                ]  # fmt: skip
                ends.append(torch.stack([value, *terms]))
        rows.append((ends[0] - ends[1]) / 2e-4)
    table = torch.stack(rows)
    solved = torch.linalg.lstsq(table[:, 1:], table[:, :1]).solution[:, 0].tolist()
    assert objective.scale == pytest.approx(solved[0], rel=1e-5)
    found = objective.regulariser.coefficients
    assert found == pytest.approx(solved[1:], rel=1e-5, abs=1e-7)
    if name in {"elbo", "heavy KL", "bce"}:
        assert objective.noise_variance == pytest.approx(solved[3] / solved[0], rel=1e-5)


class Conv(nn.Module):
    """Batch norm, convolutions, an in-place activation and a chunked head."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
            nn.Flatten(), nn.Linear(64, 6),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(3, 16), nn.Unflatten(1, (4, 2, 2)), nn.ConvTranspose2d(4, 2, 4, 2, 1),
            nn.BatchNorm2d(2), nn.SiLU(), nn.ConvTranspose2d(2, 1, 4, 2, 1), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        kl = -0.5 * torch.mean(1 + logvar - mu**2 - logvar.exp())
        return F.binary_cross_entropy(self.decoder(z), x) + 0.1 * kl


def plain(model, x):
    return vae()(model, x)


def own_loss(model, x):
    return model(x)


@pytest.mark.parametrize(
    ("make", "x", "loss"),
    [
        (random_model, plain_rows(n=BATCH), plain),
        (
            lambda: Conv().double(),
            torch.rand(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64),
            own_loss,
        ),
    ],
    ids=["linear", "conv"],
)
def test_replayed_gradients_are_autograds(make, x, loss):
    torch.manual_seed(0)
    model = make()
    subject = watch_model(model, x, loss)
    parameters = {id(p): p for p in model.parameters()}
    torch.manual_seed(4)
    (shape,) = {subject.tape.slots[subject.lineage.eps].shape}
    eps = torch.randn(shape, dtype=torch.float64)
    torch.manual_seed(4)
    loss(model, x).backward()
    replay = Replay(subject.tape)
    (root,) = subject.tape.roots
    value = replay.run([root], feed={subject.lineage.eps: eps}, training=True)[root]
    slots = list(replay.parameters)
    grads = torch.autograd.grad(value, [replay.parameters[s] for s in slots])
    assert len(slots) == len(parameters)
    for slot, grad in zip(slots, grads, strict=True):
        theirs = parameters[id(subject.tape.slots[slot].value)].grad
        assert torch.allclose(grad, theirs, rtol=1e-10, atol=1e-13)


def test_probes_that_do_not_apply_say_so():
    step = vae(sample=lambda mu, sigma: mu)
    for probe in (Amortisation, Heads, Ladder):
        with pytest.raises(CannotMeasure):
            bench_of(random_model(), plain_rows(), step).get(probe)


def test_mean_and_variance_of_the_continuous_bernoulli():
    logits = torch.tensor([-30.0, -3.0, -1e-5, 0.0, 0.5, 8.0], dtype=torch.float64)
    known = torch.distributions.ContinuousBernoulli(logits=logits)
    torch.testing.assert_close(continuous_mean(logits), known.mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(_continuous_variance(known.mean), known.variance, rtol=1e-6, atol=0)
