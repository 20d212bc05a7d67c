"""Posteriors of full covariance: the KL is read whatever its spelling, and a wrong one is called what it is."""

import pytest
import torch
import torch.distributions as td
import torch.nn.functional as F
from steps import B, D, audit, d, sse
from torch import nn

from whyvae.audit.covariance import factor, log_volume, rows_of_noise
from whyvae.audit.cut import cut
from whyvae.probes.latents import LatentUsage, posterior_samples

LOWER = torch.tril_indices(d, d)


class Cholesky(nn.Module):
    """Mu, and the lower triangle of L with a positive diagonal."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(D, 10), nn.Tanh())
        self.head = nn.Linear(10, d + len(LOWER[0]))
        self.decoder = nn.Sequential(nn.Linear(d, 10), nn.Tanh(), nn.Linear(10, D))

    def enc(self, x):
        h = self.head(self.body(x))
        raw = torch.zeros(len(x), d, d).index_put((torch.arange(len(x))[:, None], *LOWER), h[:, d:])
        return h[:, :d], raw.tril(-1) + torch.diag_embed(F.softplus(raw.diagonal(dim1=1, dim2=2)) + 0.1)


@pytest.fixture
def m():
    torch.manual_seed(0)
    return Cholesky()


@pytest.fixture
def x():
    return torch.rand(B, D, generator=torch.Generator().manual_seed(1))


def draw(mu, factors):
    return mu + torch.einsum("bij,bj->bi", factors, torch.randn_like(mu))


def squares(mu, factors):
    return 0.5 * mu.square().sum() + 0.5 * factors.square().sum()


def volume(factors):
    return factors.diagonal(dim1=1, dim2=2).log().sum()


def by_hand(m, x):
    mu, factors = m.enc(x)
    return sse(m.decoder(draw(mu, factors)), x) + 2 * (squares(mu, factors) - volume(factors))


def of_torch(m, x):
    q = td.MultivariateNormal(*(m.enc(x)[0],), scale_tril=m.enc(x)[1])
    prior = td.MultivariateNormal(torch.zeros(d), torch.eye(d))
    return sse(m.decoder(q.rsample()), x) + 2 * td.kl_divergence(q, prior).sum()


def at_the_sample(m, x):
    mu, factors = m.enc(x)
    q = td.MultivariateNormal(mu, scale_tril=factors)
    z = q.rsample()
    return sse(m.decoder(z), x) + 2 * (q.log_prob(z) - td.Normal(0.0, 1.0).log_prob(z).sum(1)).sum()


def along_the_path(m, x):
    mu, factors = m.enc(x)
    z = draw(mu, factors)
    q = td.MultivariateNormal(mu.detach(), scale_tril=factors.detach())
    return sse(m.decoder(z), x) + 2 * (q.log_prob(z) - td.Normal(0.0, 1.0).log_prob(z).sum(1)).sum()


@pytest.mark.parametrize("loss", [by_hand, of_torch, at_the_sample, along_the_path])
def test_the_kl_is_read(m, x, loss):
    found = audit(lambda x: loss(m, x), x)
    assert found.lineage.posterior == "full-covariance Gaussian"
    assert (found.regulariser.form, found.regulariser.weight) == ("exact", pytest.approx(2.0, rel=1e-6))
    assert found.objective().weight_known


def test_several_mirrored_samples_of_each_example(m, x):
    def step(x):
        mu, factors = m.enc(x)
        q = td.MultivariateNormal(mu, scale_tril=factors)
        eps = torch.randn(2, *mu.shape)
        z = q.loc + (q.scale_tril @ torch.cat([eps, -eps])[..., None])[..., 0]
        log_p = td.Normal(0.0, 1.0).log_prob(z).sum(-1)
        return sse(m.decoder(z), x.expand(4, *x.shape)) + (q.log_prob(z) - log_p).sum()

    found = audit(step, x)
    assert (found.regulariser.form, found.regulariser.weight) == ("exact", pytest.approx(1.0, rel=1e-6))
    assert found.objective().weight_known


def test_a_prior_that_is_no_gaussian(m, x):
    mixture = td.MixtureSameFamily(
        td.Categorical(torch.ones(2)), td.Independent(td.Normal(torch.tensor([[-2.0], [2.0]]).expand(2, d), 1.0), 1)
    )

    def step(x):
        mu, factors = m.enc(x)
        q = td.MultivariateNormal(mu, scale_tril=factors)
        z = q.rsample()
        return sse(m.decoder(z), x) + 2 * (q.log_prob(z) - mixture.log_prob(z)).sum()

    found = audit(step, x).regulariser
    assert (found.form, found.weight) == ("prior density", pytest.approx(2.0, rel=1e-6))


@pytest.mark.parametrize(("wrong", "words"), [
    (lambda q, p: td.kl_divergence(p, q).sum(), "wrong way round"),
    (lambda q, p: squares(q.loc, q.scale_tril), "nothing keeps sigma from shrinking"),
    (lambda q, p: squares(q.loc, q.scale_tril) - q.scale_tril.diagonal(dim1=1, dim2=2).sum(1).log().sum(), "of the trace"),
    (lambda q, p: squares(q.loc, q.scale_tril.diagonal(dim1=1, dim2=2)) - volume(q.scale_tril), "left out"),
])  # fmt: skip
def test_a_wrong_formula_is_called_what_it_is(m, x, wrong, words):
    def step(x):
        mu, factors = m.enc(x)
        q = td.MultivariateNormal(mu, scale_tril=factors)
        p = td.MultivariateNormal(torch.zeros(B, d), torch.eye(d))
        return sse(m.decoder(q.rsample()), x) + wrong(q, p)

    found = audit(step, x).regulariser
    assert found.form == "wrong"
    assert words in found.mistake


def test_what_the_noise_does_to_z_is_the_factor(m, x):
    mu, factors = (t.detach().double() for t in m.enc(x))
    found = factor(lambda eps: mu + (factors @ eps[..., None])[..., 0], (B, d))
    assert torch.allclose(found[0], mu)
    assert torch.allclose(found[1], factors)
    assert torch.allclose(log_volume(found[1]), factors.diagonal(dim1=1, dim2=2).log().sum(1))
    assert factor(lambda eps: mu + eps.sum(), (B + 1, d)) is None


def test_noise_of_another_length_than_z_is_not_judged(m, x):
    """Of part of a rank: two numbers of noise move three units."""

    def step(x):
        mu, factors = m.enc(x)
        z = mu + (factors[:, :, :2] @ torch.randn(B, 2, 1))[..., 0]
        return sse(m.decoder(z), x) + squares(mu, factors) - volume(factors)

    found = audit(step, x)
    assert found.lineage.posterior == "full-covariance Gaussian"
    assert "part of a rank" in found.objective().not_auditable
    assert not found.objective().weight_known


def test_two_draws_are_not_judged(m, x):
    """Of a low rank and a diagonal."""

    def step(x):
        mu, factors = m.enc(x)
        q = td.LowRankMultivariateNormal(mu, factors, torch.ones(B, d))
        prior = td.MultivariateNormal(torch.zeros(d), torch.eye(d))
        return sse(m.decoder(q.rsample()), x) + td.kl_divergence(q, prior).sum()

    assert "part of a rank" in audit(step, x).objective().not_auditable


@pytest.mark.parametrize(("noise", "z", "known"), [
    ((8, 3), (8, 3), (8, 3)), ((8, 3, 1), (8, 3), (8, 3)), ((4, 8, 3), (4, 8, 3), (32, 3)), ((8, 64), (8, 64), (8, 64)),
    ((8, 65), (8, 65), None), ((8, 2), (8, 3), None), ((9, 3), (8, 3), None), ((), (8, 3), None), ((8, 4, 8, 8), (8, 256), None),
])  # fmt: skip
def test_rows_of_noise(noise, z, known):
    assert rows_of_noise(noise, z) == known


def test_sigma_is_that_of_each_unit_alone(m, x):
    found = audit(lambda x: by_hand(m, x), x)
    factors = m.enc(x)[1].detach().double()
    covariance = factors @ factors.mT
    step = cut(found.lineage, found.replay)
    assert torch.allclose(step.sigma.detach(), covariance.diagonal(dim1=1, dim2=2).sqrt(), rtol=1e-5)
    usage = found.measure(LatentUsage)
    assert usage.largest_sigma == pytest.approx(float(step.sigma.detach().max()), rel=1e-5)


def test_rate_and_samples_are_those_of_the_whole_covariance(m, x):
    found = audit(lambda x: by_hand(m, x), x)
    mu, factors = (t.detach().double() for t in m.enc(x))
    usage = found.measure(LatentUsage)
    assert usage.rate == pytest.approx(float(squares(mu, factors) - volume(factors)) / B - d / 2, rel=1e-5)
    assert usage.rate > sum(usage.kl_per_unit)
    rows = torch.zeros(20_000, dtype=torch.long)
    z = posterior_samples(found.subject(), torch.Generator().manual_seed(0), rows=rows)
    assert torch.allclose(z.mean(0), mu[0], atol=0.05)
    assert torch.allclose(z.T.cov(), factors[0] @ factors[0].T, atol=0.05)
