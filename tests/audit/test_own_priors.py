"""Priors that stand in no formula: pulled back through a flow, or made for each example by a network."""

import pytest
import torch
import torch.distributions as td
from steps import VAE, D, audit, d, kl_sum, pixels, reparameterise, sse
from torch import nn

from whyvae.watch.draws import ABOVE, HIERARCHY


class Planar(VAE):
    """z + u tanh(w z) (Rezende & Mohamed 2015)."""

    def __init__(self):
        super().__init__()
        self.u, self.w = nn.Parameter(torch.randn(d) * 0.3), nn.Parameter(torch.randn(d) * 0.3)

    def flow(self, z):
        a = torch.tanh((z * self.w).sum(1, keepdim=True))
        return z + self.u * a, (1 + ((1 - a**2) * self.w * self.u).sum(1)).abs().log()


class Coupling(VAE):
    """Half of z moved and scaled by networks of the other half (Dinh et al. 2017)."""

    def __init__(self):
        super().__init__()
        first, rest = d - d // 2, d // 2
        sizes = [(first, rest), (rest, first)]
        self.nets = nn.ModuleList(nn.Sequential(nn.Linear(i, 8), nn.Tanh(), nn.Linear(8, 2 * o)) for i, o in sizes)

    def flow(self, z):
        kept, moved = z.tensor_split([d - d // 2], 1)
        total = 0.0
        for net in self.nets:
            log_s, t = net(kept).chunk(2, 1)
            kept, moved = moved * log_s.exp() + t, kept
            total = total + log_s.sum(1)
        return torch.cat([moved, kept], 1), total


class Conditional(VAE):
    """The prior of z is made of a part of the example, by a network of its own (Sohn et al. 2015)."""

    def __init__(self):
        super().__init__()
        self.prior = nn.Linear(4, 2 * d)
        nn.init.normal_(self.prior.weight, std=0.3)


def with_flow(m, x, weight, *, log_det_counts=True):
    mu, lv = m.enc(x)
    z, log_det = m.flow(reparameterise(mu, lv))
    rate = -0.5 * lv.sum(1) + 0.5 * (z**2).sum(1) - log_det * log_det_counts
    return sse(m.decoder(z), x) + weight * rate.sum()


def with_flow_prior(m, x, weight, *, log_det_counts=True):
    """z is decoded as it is; its prior is a flow's (Chen et al. 2017)."""
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    base, log_det = m.flow(z)
    return sse(m.decoder(z), x) + weight * (0.5 * (base**2).sum(1) - log_det * log_det_counts - 0.5 * lv.sum(1)).sum()


def with_flow_prior_and_density(m, x, weight):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    base, log_det = m.flow(z)
    log_q = (-0.5 * (lv + (z - mu) ** 2 / lv.exp())).sum(1)
    return sse(m.decoder(z), x) + weight * (log_q + 0.5 * (base**2).sum(1) - log_det).sum()


def with_prior_network(m, x, weight):
    mu, lv = m.enc(x)
    there, spread = m.prior(x[:, :4]).chunk(2, 1)
    rate = 0.5 * (spread - lv + (lv.exp() + (mu - there) ** 2) / spread.exp() - 1)
    return sse(m.decoder(reparameterise(mu, lv)), x) + weight * rate.sum()


def with_prior_distributions(m, x, weight):
    q = td.Normal(*((p(v)) for p, v in zip((lambda v: v, nn.functional.softplus), m.enc(x), strict=True)))
    there, spread = m.prior(x[:, :4]).chunk(2, 1)
    rate = td.kl_divergence(q, td.Normal(there, spread.exp()))
    return sse(m.decoder(q.rsample()), x) + weight * rate.sum()


class Past(VAE):
    """The prior of a unit is made of the sample of the one before it (Krishnan et al. 2017: of the latent a step before)."""

    def __init__(self):
        super().__init__()
        self.prior = nn.Linear(1, 2 * (d - 1))


def of_its_past(m, z):
    """(mean, log variance) of the prior, [n, d] each."""
    return (torch.cat([torch.zeros(len(z), 1), part], 1) for part in m.prior(z[:, :1]).chunk(2, 1))


def with_prior_of_the_sample(m, x, weight):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    there, spread = of_its_past(m, z)
    rate = 0.5 * (spread - lv + (lv.exp() + (mu - there) ** 2) / spread.exp() - 1)
    return sse(m.decoder(z), x) + weight * rate.sum()


@pytest.mark.parametrize("weight", [1.0, 0.01, 100.0])
@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (Past, with_prior_of_the_sample),
        (Planar, with_flow),
        (Coupling, with_flow),
        (Planar, with_flow_prior),
        (Coupling, with_flow_prior),
        (Coupling, with_flow_prior_and_density),
        (Conditional, with_prior_network),
        (Conditional, with_prior_distributions),
    ],
)
def test_the_weight_is_read(model, loss, weight):
    torch.manual_seed(0)
    m = model()

    found = audit(lambda x: loss(m, x, weight), pixels())

    assert found.regulariser.own_prior
    assert found.s == pytest.approx(weight / 2, rel=1e-6)
    assert found.objective().not_auditable == ""
    assert found.objective().weight_known


@pytest.mark.parametrize(("model", "loss"), [(Planar, with_flow), (Coupling, with_flow), (Coupling, with_flow_prior)])
def test_a_flow_whose_log_determinant_is_left_out_is_none(model, loss):
    torch.manual_seed(0)
    m = model()

    found = audit(lambda x: loss(m, x, 1.0, log_det_counts=False), pixels())

    assert not found.regulariser.own_prior
    assert not found.objective().weight_known


@pytest.mark.parametrize("drop", ["entropy", "spread of the prior in one term"])
def test_a_conditional_kl_that_lacks_a_part_is_none(drop):
    torch.manual_seed(0)
    m = Conditional()

    def step(x):
        mu, lv = m.enc(x)
        there, spread = m.prior(x[:, :4]).chunk(2, 1)
        entropy = 0 if drop == "entropy" else lv
        mismatch = (mu - there) ** 2 / (spread.exp() if drop == "entropy" else 1)
        rate = 0.5 * (spread - entropy + lv.exp() / spread.exp() + mismatch - 1)
        return sse(m.decoder(reparameterise(mu, lv)), x) + rate.sum()

    found = audit(step, pixels())

    assert not found.regulariser.own_prior
    assert not found.objective().weight_known


def distributions(m, x):
    mu, lv = m.enc(x)
    there, spread = m.prior(x[:, :4]).chunk(2, 1)
    return td.Normal(mu, (lv / 2).exp()), td.Normal(there, (spread / 2).exp())


def rate_by_hand(m, x, log_sigma):
    q, p = distributions(m, x)
    ratio = (q.scale / p.scale) ** 2
    return 0.5 * (ratio + ((q.mean - p.mean) / p.scale) ** 2 - 1 - log_sigma * ratio.log())


def rate_with_means(m, x, power):
    q, p = distributions(m, x)
    ratio = (q.scale / p.scale) ** 2
    return 0.5 * (ratio + (q.mean - p.mean) ** 2 * p.variance**power - 1 - ratio.log())


WRONG_CONDITIONAL = {
    "wrong way round": lambda m, x: td.kl_divergence(*reversed(distributions(m, x))),
    "its sign is wrong": lambda m, x: -td.kl_divergence(*distributions(m, x)),
    "log-variance term is missing": lambda m, x: rate_by_hand(m, x, 0),
    "log-variance term has the wrong sign": lambda m, x: rate_by_hand(m, x, -1),
    "is not divided by the variance": lambda m, x: rate_with_means(m, x, 0),
    "is multiplied by the variance": lambda m, x: rate_with_means(m, x, 1),
}


@pytest.mark.parametrize("mistake", WRONG_CONDITIONAL)
@pytest.mark.parametrize("weight", [1.0, 0.01])
def test_a_wrong_kl_to_a_conditional_prior_has_a_name(mistake, weight):
    torch.manual_seed(0)
    m = Conditional()

    def step(x):
        z = distributions(m, x)[0].rsample()
        return sse(m.decoder(z), x) + weight * WRONG_CONDITIONAL[mistake](m, x).sum()

    found = audit(step, pixels())

    assert found.regulariser.form == "wrong"
    assert mistake in found.regulariser.mistake
    assert found.objective().not_auditable == ""
    assert not found.objective().weight_known
    assert found.objective().sampling_mistake == ""


@pytest.mark.parametrize(("log", "mistake"), [(-1, "log-variance term has the wrong sign"), (1, "is not divided")])
def test_a_wrong_kl_to_a_prior_of_the_sample_has_a_name(log, mistake):
    torch.manual_seed(0)
    m = Past()

    def step(x):
        mu, lv = m.enc(x)
        z = reparameterise(mu, lv)
        there, spread = of_its_past(m, z)
        by = spread if log < 0 else 0 * spread
        rate = 0.5 * (spread - log * lv + (lv - spread).exp() + (mu - there) ** 2 * (-by).exp())
        return sse(m.decoder(z), x) + rate.sum()

    found = audit(step, pixels()).regulariser
    assert found.held
    assert mistake in found.mistake


class TwoLevels(VAE):
    """z above it makes the prior of the z that is decoded (Rezende et al. 2014; Burda et al. 2016)."""

    def __init__(self):
        super().__init__()
        self.above, self.top, self.prior = nn.Linear(24, 2 * 2), nn.Linear(d, 2 * 2), nn.Linear(2, 2 * d)


def both_from_the_encoder(m, x, weight):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    mu2, lv2 = m.above(m.body(x)).chunk(2, 1)
    there, spread = m.prior(reparameterise(mu2, lv2)).chunk(2, 1)
    rate = 0.5 * (spread - lv + (lv.exp() + (mu - there) ** 2) / spread.exp() - 1)
    return sse(m.decoder(z), x) + weight * (rate.sum() + kl_sum(mu2, lv2))


def the_upper_from_the_lower(m, x, weight):
    mu, lv = m.enc(x)
    q = td.Normal(mu, (lv / 2).exp())
    z = q.rsample()
    mu2, lv2 = m.top(z).chunk(2, 1)
    q2 = td.Normal(mu2, (lv2 / 2).exp())
    z2 = q2.rsample()
    there, spread = m.prior(z2).chunk(2, 1)
    rate = q.log_prob(z).sum() - td.Normal(there, spread.exp()).log_prob(z).sum()
    return sse(m.decoder(z), x) + weight * (rate + q2.log_prob(z2).sum() - td.Normal(0.0, 1.0).log_prob(z2).sum())


@pytest.mark.parametrize("weight", [1.0, 0.01, 100.0])
@pytest.mark.parametrize("loss", [both_from_the_encoder, the_upper_from_the_lower])
def test_the_lower_level_of_a_hierarchy_is_weighed(loss, weight):
    torch.manual_seed(0)
    m = TwoLevels()
    a = audit(lambda x: loss(m, x, weight), pixels())
    assert a.lineage.latents == d
    assert a.lineage.posterior == "diagonal Gaussian"
    assert a.lineage.notes == [ABOVE]
    assert a.likelihood.family == "gaussian"
    assert a.regulariser.form == "prior density"
    assert a.s == pytest.approx(weight / 2, rel=1e-6)
    assert a.objective().not_auditable == ""


@pytest.mark.parametrize(("sign", "mistake"), [(-1, ""), (1, "is multiplied by the variance of the prior")])
def test_the_lower_of_two_levels_that_are_both_decoded(sign, mistake):
    """A ladder: z2 is encoded from z as well, and both are decoded. It is not audited, but a wrong KL has a name there too."""
    torch.manual_seed(0)
    m = TwoLevels()
    m.both = nn.Sequential(nn.Linear(d + 2, 24), nn.Tanh(), nn.Linear(24, D))
    nn.init.normal_(m.prior.weight, std=0.3)

    def step(x):
        mu, lv = m.enc(x)
        z = reparameterise(mu, lv)
        mu2, lv2 = m.top(z).chunk(2, 1)
        z2 = reparameterise(mu2, lv2)
        there, spread = m.prior(z2).chunk(2, 1)
        rate = 0.5 * (spread - lv + (lv - spread).exp() + (mu - there) ** 2 * (sign * spread).exp() - 1)
        return sse(m.both(torch.cat([z, z2], 1)), x) + rate.sum() + kl_sum(mu2, lv2)

    found = audit(step, pixels())
    assert found.lineage.posterior == HIERARCHY
    assert bool(found.objective().not_auditable) is (mistake == "")
    assert mistake in found.regulariser.mistake
