"""Wrong losses: each must be flagged, and flagged for what it is."""

import pytest
import torch
import torch.distributions as td
import torch.nn.functional as F
from steps import (
    VAE,
    B,
    Bag,
    D,
    audit,
    collector,
    d,
    kl_sum,
    pixels,
    probabilities,
    reparameterise,
    sse,
    tokens,
)
from torch import nn

from whyvae.audit.cut import cut, gradient
from whyvae.probes.noise import Noise
from whyvae.probes.target import TargetMatch
from whyvae.watch.dependencies import Dependencies

CASES = []
bug = collector(CASES)


# ---------------------------------------------------------------- what a case may say
def mistake(*words):
    """The regulariser's formula is called wrong, in these words."""

    def check(a):
        assert a.regulariser.form == "wrong"
        for word in words:
            assert word in a.regulariser.mistake
        assert not a.objective().weight_known

    return check


def unlike_any_formula(a):
    assert a.regulariser.form == "unknown"
    assert a.regulariser.residual > 1e-3
    assert not a.objective().weight_known


def no_regulariser(a):
    assert a.regulariser.form == "none"
    assert not a.objective().weight_known


def prior(mean=0.0, sd=1.0):
    def check(a):
        assert a.regulariser.form == "learned prior"
        assert a.regulariser.prior_mean == pytest.approx(mean, abs=1e-6)
        assert a.regulariser.prior_sd == pytest.approx(sd, rel=1e-6)

    return check


def family(name):
    def check(a):
        assert a.likelihood.family == name
        assert a.regulariser.form == "exact"

    return check


def blown_up_to(*shape):
    def check(a):
        assert a.likelihood.broadcast == shape

    return check


def target(**expected):
    """The likelihood is one, but of something else than the input."""

    def check(a):
        match = a.measure(TargetMatch)
        assert not match.exact
        for name, value in expected.items():
            assert getattr(match, name) == pytest.approx(value, abs=1e-5), name

    return check


def activated(name):
    """The likelihood meets the result of an activation that it applies once more itself."""

    def check(a):
        deps = Dependencies(a.tape)
        made = [a.tape.ops[deps.producer[s]] for s in deps.ancestors([a.lineage.output]) if s in deps.producer]
        last = max(op.index for op in made if deps.is_mixing(op))
        assert name in [op.name for op in made if op.index > last]
        assert not a.likelihood.family.startswith(name)

    return check


def deterministic(a):
    assert a.lineage.posterior == "deterministic"


def latent_detached(a):
    """What the decoder hands back at z, or what z hands back to the heads, is nothing."""
    step = cut(a.lineage, a.replay)
    at_z = gradient(step.loss, [step.z]).abs().max()
    at_heads = gradient(step.sample.sum(), step.heads).abs().max()
    assert float(at_z * at_heads) == 0


def noise_drawn_by(name):
    def check(a):
        assert a.tape.ops[a.lineage.noise_op].name == name
        assert a.measure(Noise).uniform

    return check


def noise_shared(a):
    assert a.measure(Noise).shared != ""


# ---------------------------------------------------------------- the KL
@bug(mistake("sign"))
def kl_subtracted(m, x):
    y, mu, lv = m(x)
    return sse(y, x) - kl_sum(mu, lv)


@bug(mistake("sign"))
def kl_half_without_minus(m, x):
    y, mu, lv = m(x)
    return F.mse_loss(y, x) + 0.5 * torch.mean(1 + lv - mu.pow(2) - lv.exp())


@bug(mistake("sign"))
def monte_carlo_kl_reversed(m, x):
    mu, lv = m.enc(x)
    q = td.Normal(mu, (lv / 2).exp())
    z = q.rsample()
    return sse(m.decoder(z), x) + (td.Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).sum()


@bug(mistake("log-variance term is missing"))
def log_sigma_missing_from_log_q(m, x):
    """Log q of the noise, not of z: without the Jacobian."""
    mu, lv = m.enc(x)
    eps = torch.randn_like(mu)
    z = mu + (lv / 2).exp() * eps
    return sse(m.decoder(z), x) + 0.5 * (z**2 - eps**2).sum()


@bug(mistake("log-variance term has the wrong sign"))
def log_sigma_added_to_log_q(m, x):
    mu, lv = m.enc(x)
    eps = torch.randn_like(mu)
    z = mu + (lv / 2).exp() * eps
    return sse(m.decoder(z), x) + 0.5 * (z**2 - eps**2 + lv).sum()


@bug(mistake("log-variance"))
def noise_times_log_variance(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(mu + torch.randn_like(mu) * lv), x) + kl_sum(mu, lv)


@bug(mistake("log-variance"))
def kl_fed_sigma(m, x):
    mu, raw = m.enc(x)
    s = F.softplus(raw)
    return sse(m.decoder(mu + torch.randn_like(mu) * s), x) + kl_sum(mu, s)


@bug(mistake("log sigma", "log-variance"))
def noise_times_exp_log_variance(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(mu + torch.randn_like(mu) * lv.exp()), x) + kl_sum(mu, lv)


@bug(mistake("log-variance"))
def log_sigma_fed_as_log_variance(m, x):
    mu, log_sigma = m.enc(x)
    z = mu + torch.randn_like(mu) * torch.exp(log_sigma)
    return sse(m.decoder(z), x) + (-0.5 * (1 + log_sigma - mu**2 - log_sigma.exp())).sum()


@bug(mistake("mu^2 term is missing"))
def mu_squared_missing(m, x):
    y, _, lv = m(x)
    return sse(y, x) - 0.5 * torch.sum(1 + lv - lv.exp())


@bug(mistake("mu^2 term is missing"))
def mu_detached_in_the_kl(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + kl_sum(mu.detach(), lv)


@bug(mistake("mu", "squared"))
def mu_not_squared(m, x):
    y, mu, lv = m(x)
    return sse(y, x) - 0.5 * torch.sum(1 + lv - mu - lv.exp())


@bug(unlike_any_formula)
def absolute_mu(m, x):
    y, mu, lv = m(x)
    return sse(y, x) - 0.5 * torch.sum(1 + lv - mu.abs() - lv.exp())


@bug(mistake("mu^2", "sign"))
def mu_squared_with_the_wrong_sign(m, x):
    y, mu, lv = m(x)
    return sse(y, x) - 0.5 * torch.sum(1 + lv + mu**2 - lv.exp())


@bug(mistake("different weights"))
def mu_squared_without_its_half(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + (mu**2 - 0.5 * (1 + lv - lv.exp())).sum()


@bug(mistake("squared"))
def exponential_squared(m, x):
    y, mu, lv = m(x)
    return sse(y, x) - 0.5 * torch.sum(1 + lv - mu**2 - lv.exp() ** 2)


@bug(mistake("log-variance term is missing"))
def log_variance_missing(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + 0.5 * (mu**2 + lv.exp() - 1).sum()


@bug(mistake("variance term is missing"))
def variance_missing(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + 0.5 * (mu**2 - lv - 1).sum()


@bug(mistake("log-variance term has the wrong sign"))
def log_variance_with_the_wrong_sign(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + 0.5 * (mu**2 + lv.exp() + lv - 1).sum()


@bug(mistake("variance term has the wrong sign"))
def variance_outside_the_bracket(m, x):
    y, mu, lv = m(x)
    return sse(y, x) - 0.5 * torch.sum(1 + lv - mu.pow(2)) - lv.exp().sum()


@bug(mistake("sigma is free"))
def only_mu_penalised(m, x):
    y, mu, _ = m(x)
    return sse(y, x) + 0.5 * mu.pow(2).sum()


@bug(mistake("sigma is free"))
def log_variance_detached_in_the_kl(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + kl_sum(mu, lv.detach())


@bug(prior(sd=0.5**0.5))
def log_sigma_counted_once_too_little(m, x):
    mu, lv = m.enc(x)
    std = (lv / 2).exp()
    y = m.decoder(mu + std * torch.randn_like(std))
    return sse(y, x) + 0.5 * (mu**2 + std**2 - 1 - std.log()).sum()


@bug(mistake("sigma stands where the variance belongs"))
def sigma_for_variance(m, x):
    mu, lv = m.enc(x)
    std = (lv / 2).exp()
    y = m.decoder(mu + std * torch.randn_like(std))
    return sse(y, x) - 0.5 * (1 + lv - mu**2 - std).sum()


@bug(mistake("variance"))
def variance_passed_as_sigma(m, x):
    mu, lv = m.enc(x)
    rate = td.kl_divergence(td.Normal(mu, lv.exp()), td.Normal(0.0, 1.0))
    return sse(m.decoder(reparameterise(mu, lv)), x) + rate.sum()


@bug(mistake("wrong way round"))
def kl_of_prior_to_posterior(m, x):
    mu, lv = m.enc(x)
    q = td.Normal(mu, (lv / 2).exp())
    prior_ = td.Normal(torch.zeros_like(mu), 1.0)
    return sse(m.decoder(q.rsample()), x) + td.kl_divergence(prior_, q).sum()


@bug(mistake("mu is averaged over the batch before it is squared"))
def mean_of_mu_squared(m, x):
    y, mu, lv = m(x)
    return sse(y, x) / len(x) + 0.5 * (mu.mean(0) ** 2 + lv.exp().mean(0) - 1 - lv.mean(0)).sum()


@bug(mistake("mu and log-variance are averaged over the batch"))
def kl_of_mean_heads(m, x):
    y, mu, lv = m(x)
    return sse(y, x) / len(x) + kl_sum(mu.mean(0), lv.mean(0))


@bug(mistake("mean mu and mean sigma"))
def kl_of_a_mean_normal(m, x):
    y, mu, lv = m(x)
    q = td.Normal(mu.mean(0), (lv / 2).exp().mean(0))
    return sse(y, x) / len(x) + td.kl_divergence(q, td.Normal(0.0, 1.0)).sum()


@bug(unlike_any_formula)
def mu_and_log_variance_exchanged(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + kl_sum(lv, mu)


@bug(no_regulariser)
def kl_of_another_layer(m, x):
    h = m.body(x)
    mu, lv = m.head(h).chunk(2, 1)
    return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(h, h)


@bug(mistake("different weights"))
def noise_a_tenth(m, x):
    mu, lv = m.enc(x)
    z = mu + 0.1 * torch.randn_like(mu) * (lv / 2).exp()
    return sse(m.decoder(z), x) + kl_sum(mu, lv)


@bug(unlike_any_formula)
def noise_scales_mu(m, x):
    mu, lv = m.enc(x)
    z = torch.randn_like(mu) * mu + (lv / 2).exp()
    return sse(m.decoder(z), x) + kl_sum(mu, lv)


@bug(no_regulariser)
def kl_detached(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + kl_sum(mu, lv).detach()


@bug(no_regulariser)
def kl_item(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + kl_sum(mu, lv).item()


@bug(no_regulariser)
def kl_under_no_grad(m, x):
    y, mu, lv = m(x)
    with torch.no_grad():
        kl = kl_sum(mu, lv)
    return sse(y, x) + kl


@bug(no_regulariser)
def kl_forgotten(m, x):
    y, _, _ = m(x)
    return sse(y, x)


@bug(no_regulariser)
def kl_clamped_from_above(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + kl_sum(mu, lv).clamp(max=0.0)


@bug(prior(sd=2.0))
def prior_of_width_two(m, x):
    mu, lv = m.enc(x)
    q = td.Normal(mu, lv.exp())
    return sse(m.decoder(q.rsample()), x) + td.kl_divergence(q, td.Normal(0.0, 2.0)).sum()


@bug(prior(mean=1.0))
def prior_off_centre(m, x):
    mu, lv = m.enc(x)
    q = td.Normal(mu, (lv / 2).exp())
    return sse(m.decoder(q.rsample()), x) + td.kl_divergence(q, td.Normal(1.0, 1.0)).sum()


# ---------------------------------------------------------------- the noise
@bug(deterministic)
def no_noise(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(mu), x) + kl_sum(mu, lv)


@bug(deterministic)
def sigma_added_without_noise(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(mu + (lv / 2).exp()), x) + kl_sum(mu, lv)


@bug(deterministic)
def sampled_but_mu_decoded(m, x):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    z.mean()
    return sse(m.decoder(mu), x) + kl_sum(mu, lv)


@bug(noise_drawn_by("rand_like"))
def uniform_noise(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(mu + torch.rand_like(mu) * (lv / 2).exp()), x) + kl_sum(mu, lv)


@bug(noise_drawn_by("uniform_"))
def uniform_noise_in_place(m, x):
    mu, lv = m.enc(x)
    eps = torch.empty(B, d).uniform_()
    return sse(m.decoder(mu + eps * (lv / 2).exp()), x) + kl_sum(mu, lv)


@bug(noise_shared)
def noise_shared_by_the_batch(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(mu + torch.randn(d) * (lv / 2).exp()), x) + kl_sum(mu, lv)


@bug(noise_shared)
def noise_shared_by_the_units(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(mu + torch.randn(B, 1) * (lv / 2).exp()), x) + kl_sum(mu, lv)


@bug(noise_shared)
def noise_of_one_number(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(mu + torch.randn(1) * (lv / 2).exp()), x) + kl_sum(mu, lv)


@bug(latent_detached)
def sample_without_gradient(m, x):
    mu, lv = m.enc(x)
    q = td.Normal(mu, (lv / 2).exp())
    return sse(m.decoder(q.sample()), x) + kl_sum(mu, lv)


@bug(latent_detached)
def torch_normal_of_mu_and_sigma(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(torch.normal(mu, (lv / 2).exp())), x) + kl_sum(mu, lv)


@bug(latent_detached)
def latent_detached_by_hand(m, x):
    mu, lv = m.enc(x)
    return sse(m.decoder(reparameterise(mu, lv).detach()), x) + kl_sum(mu, lv)


@bug(latent_detached)
def latent_from_data_attributes(m, x):
    mu, lv = m.enc(x)
    z = mu.data + torch.randn_like(mu) * (lv.data / 2).exp()
    return sse(m.decoder(z), x) + kl_sum(mu, lv)


# ---------------------------------------------------------------- the likelihood
@bug(blown_up_to(B, B, D))
def every_output_against_every_target(m, x):
    y, mu, lv = m(x)
    a, b = y.unsqueeze(1), x.unsqueeze(0)
    return ((a - b) ** 2).mean() + kl_sum(mu, lv) / B


@bug(blown_up_to(B, B, D))
def target_with_an_axis_of_one(m, x):
    y, mu, lv = m(x)
    return ((y - x.view(B, 1, D)) ** 2).mean() + kl_sum(mu, lv)


@bug(blown_up_to(B, B, D))
def every_output_against_every_target_at_the_best_variance(m, x):
    y, mu, lv = m(x)
    return D / 2 * ((y.unsqueeze(1) - x) ** 2).mean().log() + kl_sum(mu, lv) / B


@pytest.mark.parametrize("loss", [
    lambda p, x: -p.log_prob(x.transpose(0, 1)).sum(0).mean(),
    lambda p, x: 2 * D * (-p.log_prob(x.transpose(0, 1)).mean()).exp().log(),
])  # fmt: skip
def test_the_points_of_a_set_are_its_own(loss):
    """Each is asked of all components of its example's mixture; the logarithm of a mean over all weighs them alike."""
    torch.manual_seed(0)
    m = VAE()

    def step(x):
        y, mu, lv = m(x)
        weight, loc, scale = y[:, :10].view(B, 2, 5).split([1, 2, 2], -1)
        apart = td.Independent(td.Normal(loc, scale.exp()), 1)
        p = td.MixtureSameFamily(td.Categorical(logits=weight.squeeze(-1)), apart)
        return loss(p, x.view(B, D // 2, 2)) + kl_sum(mu, lv) / B

    found = audit(step, torch.rand(B, D)).likelihood

    assert found.target.shape == (D // 2, B, 1, 2)
    assert found.broadcast is None


class Scalar(VAE):
    """Encodes a vector, decodes one number of it."""

    def __init__(self):
        super().__init__()
        self.decoder[4] = nn.Linear(24, 1)


@bug(blown_up_to(B, B), model=Scalar)
def column_against_row(m, x):
    y, mu, lv = m(x)
    return ((y - x[:, 0]) ** 2).sum() + kl_sum(mu, lv)


@bug(target(affine=True, slope=2, offset=-1, own_row=1))
def target_rescaled(m, x):
    y, mu, lv = m(x)
    return sse(y, 2 * x - 1) + kl_sum(mu, lv)


@bug(target(affine=False, same_origin=False))
def target_of_noise(m, x):
    y, mu, lv = m(x)
    return sse(y, torch.rand(B, D)) + kl_sum(mu, lv)


@bug(target(affine=False, own_row=0))
def target_rows_shifted(m, x):
    y, mu, lv = m(x)
    return sse(y, x.roll(1, 0)) + kl_sum(mu, lv)


@bug(target(affine=False))
def target_squared(m, x):
    y, mu, lv = m(x)
    return sse(y, x**2) + kl_sum(mu, lv)


@bug(family("swapped bernoulli"), model=probabilities)
def bce_arguments_exchanged(m, x):
    y, mu, lv = m(x)
    return F.binary_cross_entropy(x, y, reduction="sum") + kl_sum(mu, lv)


@bug(family("swapped bernoulli"), model=probabilities)
def bce_by_hand_with_exchanged_roles_and_clamps(m, x):
    y, mu, lv = m(x)
    a, b = y.clamp(1e-6, 1 - 1e-6), x.clamp(1e-6, 1 - 1e-6)
    return -(a * torch.log(b) + (1 - a) * torch.log(1 - b)).sum() + kl_sum(mu, lv)


def reconstruction_with_the_wrong_sign(a):
    assert a.likelihood.sign == -1
    assert not a.objective().weight_known


@bug(reconstruction_with_the_wrong_sign)
def squared_error_subtracted(m, x):
    y, mu, lv = m(x)
    return kl_sum(mu, lv) - sse(y, x)


@bug(reconstruction_with_the_wrong_sign)
def log_likelihood_minimised(m, x):
    y, mu, lv = m(x)
    return td.Normal(y, 1.0).log_prob(x).sum() + kl_sum(mu, lv)


@bug(activated("sigmoid"))
def sigmoid_twice(m, x):
    y, mu, lv = m(x)
    return F.binary_cross_entropy_with_logits(torch.sigmoid(y), x, reduction="sum") + kl_sum(mu, lv)


@bug(activated("softmax"), model=Bag, data=tokens)
def softmax_twice(m, x):
    logits, mu, lv = m(x)
    p = logits.softmax(-1).transpose(1, 2)
    return F.cross_entropy(p, x, reduction="sum") + kl_sum(mu, lv)


def likelihood_unrecognised(a):
    assert a.likelihood.family == "unknown"
    assert not a.objective().weight_known


@bug(likelihood_unrecognised, model=Bag, data=tokens)
def nll_of_raw_logits(m, x):
    logits, mu, lv = m(x)
    return F.nll_loss(logits.transpose(1, 2), x, reduction="sum") + kl_sum(mu, lv)


@bug(likelihood_unrecognised, model=Bag, data=tokens)
def nll_of_probabilities(m, x):
    logits, mu, lv = m(x)
    return F.nll_loss(logits.softmax(-1).transpose(1, 2), x, reduction="sum") + kl_sum(mu, lv)


@bug(likelihood_unrecognised, model=probabilities)
def bce_without_its_second_term(m, x):
    y, mu, lv = m(x)
    return -(x * torch.log(y)).sum() + kl_sum(mu, lv)


@bug(likelihood_unrecognised)
def error_not_squared(m, x):
    y, mu, lv = m(x)
    return (y - x).sum() + kl_sum(mu, lv)


@bug(likelihood_unrecognised)
def error_cubed(m, x):
    y, mu, lv = m(x)
    return ((y - x) ** 3).sum() + kl_sum(mu, lv)


@bug(target(affine=False))
def squares_compared(m, x):
    y, mu, lv = m(x)
    return ((y**2 - x**2) ** 2).sum() + kl_sum(mu, lv)


def reconstruction_missing(a):
    assert a.likelihood is None
    assert not a.objective().weight_known


@bug(reconstruction_missing)
def output_detached(m, x):
    y, mu, lv = m(x)
    return sse(y.detach(), x) + kl_sum(mu, lv)


@bug(target(affine=False, own_feature=0), data=lambda: (pixels(), torch.arange(D).roll(1)))
def target_features_permuted(m, x, order):
    y, mu, lv = m(x)
    return sse(y, x[:, order]) + kl_sum(mu, lv)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_wrong_loss_is_flagged(case):
    step, data, _ = case.build()
    case.expected(audit(step, *data))
