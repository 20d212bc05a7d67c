"""The generation ladder and the density of encodings, against closed forms of the linear VAE and of Gaussians."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from linear import EIGENVALUES, Linear, rows_of
from torch import nn

from whyvae.probe import Bench
from whyvae.probes.density import density
from whyvae.probes.generation import Ladder, in_hole
from whyvae.probes.intervals import binomial
from whyvae.probes.use import LatentUse
from whyvae.watch.direct import watch_model
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

D, LATENTS = len(EIGENVALUES), 6


@pytest.fixture(autouse=True)
def _tracebacks(monkeypatch):
    monkeypatch.setenv("WHYVAE_DEBUG", "1")


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ladder_of(linear, change=lambda model: None):
    model = linear.model()
    with torch.no_grad():
        change(model)
    return Bench(watch_model(model, rows_of(linear.C), linear.loss)).get(Ladder)


# ------------------------------------------------------------------ ladder
def test_ideal_model_stands_at_the_null_on_every_rung():
    ladder = ladder_of(Linear.optimum(0.02, LATENTS, eigenvalues=(8.0, 4.0, 2.0, 1.0, 0.6, 0.4)))
    assert ladder.reconstruction.sliced.worse < 0  # of the very examples
    for rung in (ladder.fitted, ladder.prior):
        assert abs(rung.sliced.worse) < 4
        assert rung.kind() == "as real"
    assert abs(ladder.prior_excess) < 0.01
    assert ladder.prior_quality == pytest.approx(1, abs=0.08)
    assert ladder.hole_low < 0.01 < ladder.hole_high
    assert (ladder.rows, ladder.held_out) == (512, False)


@pytest.mark.parametrize("length", [1.0, 2.0, 4.0])
def test_encodings_shifted_away_from_the_prior(length):
    """Encodings N(b, I), a decoder that knows: prior samples are off by W b, and fall into the hole as often as the
    noncentral chi square says. Tolerance: 256 directions; a density known from 1000 encodings.
    """
    linear = Linear.optimum(0.02, LATENTS)
    shift = torch.full((LATENTS,), length / LATENTS**0.5, dtype=torch.float64)

    def change(model):
        model.mu.bias.copy_(shift)
        model.decoder.bias.copy_(-linear.W @ shift)

    ladder = ladder_of(linear, change)
    off = (linear.W @ shift) / rows_of(linear.C).std(0)
    assert ladder.prior_excess == pytest.approx(float(off.square().sum()) / D, rel=0.3)
    assert abs(ladder.fitted.sliced.worse) < 4
    expected = scipy.stats.ncx2.sf(scipy.stats.chi2.ppf(0.99, LATENTS), LATENTS, length**2)
    assert ladder.hole == pytest.approx(expected, rel=0.35, abs=0.02)


@pytest.mark.parametrize("width", [0.3, 0.6])
def test_encodings_narrower_than_the_prior(width):
    """Encodings N(0, c^2): z is outside where z^2 exceeds c^2 times the chi square's 99 %; samples are 1/c too wide."""
    linear = Linear.optimum(0.02, LATENTS)

    def change(model):
        model.mu.weight.mul_(width)
        model.logvar.bias.add_(2 * math.log(width))
        model.decoder.weight.div_(width)

    ladder = ladder_of(linear, change)
    expected = scipy.stats.chi2.sf(width**2 * scipy.stats.chi2.ppf(0.99, LATENTS), LATENTS)
    assert ladder.hole == pytest.approx(expected, abs=0.06)
    assert ladder.prior_excess == pytest.approx((1 / width - 1) ** 2, rel=0.2)
    assert ladder.plausible_in_hole < ladder.plausible_fitted
    assert ladder.prior_quality < 1


def test_interval_of_a_share_is_scipys():
    for hits, n in ((0, 20), (1, 100), (7, 512), (512, 512), (300, 512)):
        exact = scipy.stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
        assert binomial(hits, n) == pytest.approx((hits / n, exact.low, exact.high), abs=1e-9)


# ------------------------------------------------------------------ density
def test_density_of_a_gaussian_is_its_negative_entropy():
    spread = torch.tensor([1.0, 0.1, 50.0], dtype=torch.float64)
    rows = normal(2000, 3) * spread + 7
    near = density(rows[:1000], rows[1000:])
    entropy = 1.5 * math.log(2 * math.pi * math.e) + float(spread.log().sum())
    assert near.nats == pytest.approx(-entropy, abs=0.1)
    assert near.nats == pytest.approx(float(near.log(rows[1000:]).mean()), abs=1e-9)


def test_far_clusters_are_found_and_carry_the_log_of_their_number():
    centres = 40 * normal(8, 2, 5)
    rows = centres[torch.arange(1600) % 8] + normal(1600, 2)
    near = density(rows[:1000], rows[1000:])
    assert near.components >= 8
    assert near.nats == pytest.approx(-math.log(2 * math.pi * math.e) - math.log(8), abs=0.15)
    assert near.nats_of_one < near.nats - 1
    drawn = near.sample(4000, torch.Generator().manual_seed(0))
    assert torch.cdist(drawn, centres).min(1).values.max() < 8
    share = torch.cdist(drawn, centres).argmin(1).bincount(minlength=8) / 4000
    assert share.tolist() == pytest.approx([1 / 8] * 8, abs=0.03)


def test_log_density_the_slow_way():
    rows = normal(400, 2) * torch.tensor([3.0, 0.2]) + torch.tensor([1.0, -4.0])
    near = density(rows[:300], rows[300:])
    mixture, total = near.mixture, 0.0
    point = ((rows[0] - near.centre) / near.spread).numpy()
    for weight, mean, cov in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True):
        full = cov if cov.ndim == 2 else torch.diag(torch.as_tensor(cov)).numpy()
        total += weight * scipy.stats.multivariate_normal(mean, full).pdf(point)
    assert float(near.log(rows[:1])) == pytest.approx(math.log(total) - float(near.spread.log().sum()), rel=1e-9)


def test_more_latents_than_encodings_get_a_diagonal_density():
    near = density(normal(60, 200), normal(60, 200, 1))
    assert near.mixture.covariance_type == "diag"
    assert near.sample(5, torch.Generator()).shape == (5, 200)


@pytest.mark.parametrize("empty", [0, 2, 5])
def test_hole_of_cells_without_encodings(empty):
    """Encodings fill all but `empty` of 8 far cells, draws fill all: the hole is empty / 8."""
    centres = 40 * normal(8, 2, 5)
    encoded = centres[torch.arange(1600) % (8 - empty)] + normal(1600, 2)
    draws = centres[torch.arange(800) % 8] + normal(800, 2, 1)
    near = density(encoded[:1000], encoded[1000:])
    hole = float(in_hole(near, encoded[1000:], draws).double().mean())
    assert hole == pytest.approx(empty / 8 + 0.01 * (1 - empty / 8), abs=0.02)


# ------------------------------------------------------------------ what the latent is for
class Map(nn.Module):
    """[1, 16, 16] -> z [2, 16 / stride, 16 / stride] -> [1, 16, 16]."""

    def __init__(self, stride):
        super().__init__()
        self.encoder = nn.Conv2d(1, 4, stride, stride)
        self.decoder = nn.ConvTranspose2d(2, 1, stride, stride)

    def loss(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return ((self.decoder(z) - x).square().sum() + 1e-6 * kl) / len(x)


class Columns(nn.Module):
    """A table with a term for each column, as where some are numbers and some are classes."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 4), nn.Linear(2, 4)

    def loss(self, x):
        mu, logvar = self.encoder(x).chunk(2, 1)
        y = self.decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()
        return (sum((x[:, j] - torch.tanh(y[:, j])).square().sum() for j in range(4)) + kl) / len(x)


def test_one_column_of_a_table_is_scored_as_a_table_of_one():
    ladder = Bench(trained(Columns(), normal(256, 4).float())).get(Ladder)
    assert ladder.rows >= 16
    assert 0 <= ladder.hole <= 1


@pytest.mark.parametrize(("draw", "expected"), [("encodings", True), ("prior", False)])
def test_draws_from_where_encodings_lie_are_told_from_draws_of_the_prior(draw, expected):
    torch.manual_seed(0)
    encoder, decoder, x = nn.Linear(4, 4), nn.Linear(2, 4), normal(256, 4).float()
    with torch.no_grad():
        encoder.bias[:2] += 6.0  # encodings lie far from 0, whatever a few steps do
    with Watcher() as watcher:
        optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=1e-6)
        for _ in range(8):
            rows = x[torch.randperm(256)[:64]]
            mu, logvar = encoder(rows).chunk(2, 1)
            y = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            optimizer.zero_grad()
            ((y - rows).square().sum() - 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum()).backward()
            optimizer.step()
        with torch.no_grad():
            mu, logvar = encoder(x).chunk(2, 1)
            spread = (mu.var(0) + logvar.exp().mean(0)).sqrt().numpy()
            z = np.random.default_rng(0).normal(size=(200, 2))
            z = mu.mean(0).numpy() + spread * z if draw == "encodings" else z
            decoder(torch.from_numpy(z).float()).numpy()
    assert Bench(Subject.of(watcher)).get(LatentUse).from_encodings is expected


def use_of(model, *, draws=False):
    x = normal(64, 256).float().view(-1, 1, 16, 16)
    return Bench(trained(model, x, draws=draws)).get(LatentUse)


def trained(model, x, *, draws=False):
    with torch.random.fork_rng(), Watcher() as watcher:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(4):
            optimizer.zero_grad()
            model.loss(x[torch.randperm(len(x))[:32]]).backward()
            optimizer.step()
        if draws:
            with torch.no_grad():
                model.decoder(torch.randn(9, 2, 4, 4))
    return Subject.of(watcher)


def test_latent_maps_are_told_from_vectors_and_from_maps_that_are_drawn():
    big = use_of(Map(4))
    assert (big.shape, big.places, big.share, big.drawn) == ((2, 4, 4), 16, 32 / 256, 0)
    assert big.for_another_model
    assert use_of(Map(4), draws=True).drawn == 1
    assert not use_of(Map(4), draws=True).for_another_model
    small = use_of(Map(8))
    assert (small.places, small.for_another_model) == (4, False)
    vector = Bench(watch_model((linear := Linear.optimum(0.02, 3)).model(), rows_of(linear.C), linear.loss)).get(
        LatentUse
    )
    assert (vector.shape, vector.places, vector.share) == ((3,), 1, 3 / D)
