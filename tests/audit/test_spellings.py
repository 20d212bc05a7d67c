"""Correct losses, as people spell them: the audit must give s = w / c exactly, accusing none."""

import math

import numpy as np
import pytest
import torch
import torch.distributions as td
import torch.nn.functional as F
from steps import (
    KL_SHARE,
    VAE,
    B,
    Bag,
    D,
    audit,
    collector,
    d,
    images,
    kl_sum,
    labelled,
    pixels,
    probabilities,
    reparameterise,
    sse,
    tokens,
)  # fmt: skip
from torch import nn
from torch.utils.checkpoint import checkpoint

from whyvae.audit.cut import cut
from whyvae.audit.likelihood import Likelihood, _by_residual
from whyvae.watch.meetings import Meeting

CASES = []
spelling = collector(CASES)


# ---------------------------------------------------------------- reductions and likelihoods
@spelling(1.0, model=probabilities)
def bce_sum_kl_sum(m, x):
    y, mu, lv = m(x)
    return F.binary_cross_entropy(y, x, reduction="sum") + kl_sum(mu, lv)


@spelling(1.0, model=lambda: VAE(sigmoid=True, norm=True))
def bce_sum_kl_sum_batch_norm(m, x):
    y, mu, lv = m(x)
    return F.binary_cross_entropy(y, x, reduction="sum") + kl_sum(mu, lv)


@spelling(0.5)
def mse_sum_kl_sum(m, x):
    y, mu, lv = m(x)
    return F.mse_loss(y, x, reduction="sum") + kl_sum(mu, lv)


@spelling(KL_SHARE)
def mse_mean_kl_mean_of_all(m, x):
    y, mu, lv = m(x)
    return F.mse_loss(y, x) + torch.mean(-0.5 * (1 + lv - mu**2 - lv.exp()))


@spelling(D / 2)
def mse_mean_kl_sum_over_latents(m, x):
    y, mu, lv = m(x)
    return F.mse_loss(y, x) + (-0.5 * (1 + lv - mu**2 - lv.exp())).sum(1).mean()


@spelling(0.5)
def mse_unreduced_summed_by_example(m, x):
    y, mu, lv = m(x)
    recon = F.mse_loss(y, x, reduction="none").view(B, -1).sum(1).mean()
    return recon + 0.5 * (mu.square() + lv.exp() - 1 - lv).sum(1).mean()


@spelling(2.0)
def continuous_bernoulli_on_logits(m, x):
    y, mu, lv = m(x)
    p = td.ContinuousBernoulli(logits=y, validate_args=False)
    return -p.log_prob(x).sum() + 2 * kl_sum(mu, lv)


@spelling(1.0)
def continuous_bernoulli_on_probabilities(m, x):
    y, mu, lv = m(x)
    p = td.ContinuousBernoulli(probs=y.sigmoid(), validate_args=False)
    return (-p.log_prob(x).sum() + kl_sum(mu, lv)) / B


@spelling(1.0)
def poisson_rates(m, x):
    y, mu, lv = m(x)
    counts = (x.abs() * 5).round()
    return F.poisson_nll_loss(F.softplus(y), counts, log_input=False, eps=0.0, reduction="sum") + kl_sum(mu, lv)


@spelling(0.00025 * D)
def bce_logits_mean_small_kl(m, x):
    y, mu, lv = m(x)
    return F.binary_cross_entropy_with_logits(y, x) + 0.00025 * kl_sum(mu, lv) / B


@spelling(0.01)
def normal_log_prob_softplus_head(m, x):
    mu, raw = m.enc(x)
    q = td.Normal(mu, F.softplus(raw) + 1e-3)
    y = m.decoder(q.rsample())
    rate = td.kl_divergence(q, td.Normal(0.0, 1.0)).sum(-1)
    return (-td.Normal(y, 0.1).log_prob(x).sum(-1) + rate).mean()


@spelling(3.0)
def monte_carlo_kl(m, x):
    mu, lv = m.enc(x)
    q = td.Normal(mu, (0.5 * lv).exp())
    z = q.rsample()
    rate = (q.log_prob(z) - td.Normal(0.0, 1.0).log_prob(z)).sum(-1)
    return (0.5 * ((x - m.decoder(z)) ** 2).sum(-1) + 3 * rate).mean()


@spelling(3.0, model=lambda: VAE(norm=True))
def monte_carlo_kl_batch_norm(m, x):
    return monte_carlo_kl(m, x)


@spelling(3.0)
def monte_carlo_kl_along_the_path(m, x):
    """Roeder, Wu & Duvenaud 2017: q is held fixed in log q."""
    mu, lv = m.enc(x)
    std = (0.5 * lv).exp()
    z = mu + std * torch.randn_like(mu)
    rate = (td.Normal(mu.detach(), std.detach()).log_prob(z) - td.Normal(0.0, 1.0).log_prob(z)).sum(-1)
    return (0.5 * ((x - m.decoder(z)) ** 2).sum(-1) + 3 * rate).mean()


@spelling(1.0)
def monte_carlo_kl_by_hand(m, x):
    mu, lv = m.enc(x)
    std = torch.exp(lv / 2)
    z = mu + std * torch.randn(B, d)
    log_q = (-0.5 * math.log(2 * math.pi) - lv / 2 - (z - mu) ** 2 / (2 * lv.exp())).sum(1)
    log_p = (-0.5 * math.log(2 * math.pi) - z**2 / 2).sum(1)
    log_px = -0.5 * ((m.decoder(z) - x) ** 2).sum(1)
    return -(log_px + log_p - log_q).mean()


@spelling(2.0)
def l1_sum(m, x):
    y, mu, lv = m(x)
    return F.l1_loss(y, x, reduction="sum") / B + 2 * kl_sum(mu, lv) / B


@spelling(0.3)
def laplace_log_prob(m, x):
    y, mu, lv = m(x)
    return -td.Laplace(y, 0.3).log_prob(x).sum() + kl_sum(mu, lv)


@spelling(float(D))
def smooth_l1_mean(m, x):
    y, mu, lv = m(x)
    return F.smooth_l1_loss(y, x, beta=0.1) + kl_sum(mu, lv) / B


@spelling(2.0)
def huber_sum(m, x):
    y, mu, lv = m(x)
    return F.huber_loss(y, x, reduction="sum", delta=0.5) + kl_sum(mu, lv)


@spelling(1 / 0.3)
def huber_odd_delta(m, x):
    y, mu, lv = m(x)
    return F.huber_loss(y, x, reduction="sum", delta=0.3) + kl_sum(mu, lv)


@spelling(1.0)
def log_cosh(m, x):
    y, mu, lv = m(x)
    r = y - x
    return (r + F.softplus(-2 * r) - math.log(2)).sum() + kl_sum(mu, lv)


@spelling(1.0, data=lambda: torch.randint(0, 5, (B, D)).float())
def poisson_counts(m, x):
    y, mu, lv = m(x)
    return F.poisson_nll_loss(y, x, log_input=True, reduction="sum") + kl_sum(mu, lv)


@spelling(0.5)
def squared_and_absolute_error(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + 0.5 * F.l1_loss(y, x, reduction="sum") + kl_sum(mu, lv)


@spelling(math.exp(-1.4))
def learned_sigma(m, x):
    y, mu, lv = m(x)
    recon = (0.5 * ((x - y) / m.log_scale.exp()).pow(2) + m.log_scale).sum(1).mean()
    return recon + kl_sum(mu, lv) / B


def mse_of(a):
    return float((a.likelihood.output - a.likelihood.target).square().mean())


@spelling(mse_of)
def optimal_sigma(m, x):
    y, mu, lv = m(x)
    return 0.5 * D * F.mse_loss(y, x).log() + kl_sum(mu, lv) / B


@spelling(1.0)
def independent_bernoulli(m, x):
    mu, lv = m.enc(x)
    q = td.Independent(td.Normal(mu, (0.5 * lv).exp()), 1)
    p = td.Independent(td.Bernoulli(logits=m.decoder(q.rsample()), validate_args=False), 1)
    prior = td.Independent(td.Normal(torch.zeros(d), torch.ones(d)), 1)
    return -(p.log_prob(x) - td.kl_divergence(q, prior)).mean()


@spelling(0.25)
def gaussian_nll_fixed_variance(m, x):
    y, mu, lv = m(x)
    return F.gaussian_nll_loss(y, x, torch.full_like(y, 0.25), reduction="sum") + kl_sum(mu, lv)


class PixelVariance(VAE):
    def __init__(self):
        super().__init__()
        self.log_variance = nn.Parameter(torch.linspace(-2, 1, D))


def harmonic_pixel_variance(a):
    return 1 / float(torch.exp(-torch.linspace(-2, 1, D)).double().mean())


@spelling(harmonic_pixel_variance, model=PixelVariance)
def learned_variance_per_pixel(m, x):
    y, mu, lv = m(x)
    recon = 0.5 * ((x - y) ** 2 * torch.exp(-m.log_variance) + m.log_variance)
    return recon.sum() + kl_sum(mu, lv)


@spelling(harmonic_pixel_variance, model=PixelVariance)
def gaussian_nll_learned_variance(m, x):
    y, mu, lv = m(x)
    return F.gaussian_nll_loss(y, x, m.log_variance.exp().expand_as(y), reduction="sum") + kl_sum(mu, lv)


class Heteroscedastic(VAE):
    def __init__(self):
        super().__init__()
        self.variance = nn.Linear(d, D)


def harmonic_decoded_variance(a, m):
    z = cut(a.lineage, a.replay).z.detach()
    variance = m.variance.double()
    precision = torch.exp(-variance(z)).mean().item()
    m.float()
    return 1 / precision


@spelling(harmonic_decoded_variance, model=Heteroscedastic)
def decoded_variance(m, x):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    y, log_variance = m.decoder(z), m.variance(z)
    return (0.5 * (x - y) ** 2 * torch.exp(-log_variance) + 0.5 * log_variance).sum() + kl_sum(mu, lv)


@spelling(0.37 * D / 20)
def addcmul_clamp_normal(m, x):
    mu, lv = m.enc(x)
    lv = lv.clamp(-10, 10)
    z = torch.addcmul(mu, torch.empty_like(lv).normal_(), lv.mul(0.5).exp_())
    return 10 * ((x - m.decoder(z)) ** 2).mean(1).sum() + 0.37 * kl_sum(mu, lv)


@spelling(0.5)
def squared_norm(m, x):
    y, mu, lv = m(x)
    return torch.norm(x - y) ** 2 + kl_sum(mu, lv)


@spelling(0.5)
def norm_by_example_squared(m, x):
    y, mu, lv = m(x)
    return (torch.linalg.vector_norm(x - y, dim=1) ** 2).sum() + kl_sum(mu, lv)


@spelling(0.5)
def squared_dist(m, x):
    y, mu, lv = m(x)
    return torch.dist(y, x).pow(2) + kl_sum(mu, lv)


@spelling(0.5)
def product_with_itself(m, x):
    y, mu, lv = m(x)
    r = (y - x).flatten(1)
    return torch.einsum("bi,bi->", r, r) + kl_sum(mu, lv)


@spelling(1.0, model=probabilities)
def bce_by_hand_guarded(m, x):
    y, mu, lv = m(x)
    return -(x * torch.log(y + 1e-8) + (1 - x) * torch.log(1 - y + 1e-8)).sum() + kl_sum(mu, lv)


@spelling(1.0, model=probabilities)
def bce_by_hand_clamped(m, x):
    y, mu, lv = m(x)
    y = y.clamp(1e-6, 1 - 1e-6)
    return -(x * y.log() + (1 - x) * (1 - y).log()).sum() + kl_sum(mu, lv)


@spelling(1.0)
def bce_logits_by_hand(m, x):
    y, mu, lv = m(x)
    return (y.clamp(min=0) - y * x + torch.log1p(torch.exp(-y.abs()))).sum() + kl_sum(mu, lv)


@spelling(1.0)
def bce_softplus(m, x):
    y, mu, lv = m(x)
    return (F.softplus(y) - x * y).sum() + kl_sum(mu, lv)


@spelling(1.0)
def bce_logsigmoid(m, x):
    y, mu, lv = m(x)
    return -(x * F.logsigmoid(y) + (1 - x) * F.logsigmoid(-y)).sum() + kl_sum(mu, lv)


@spelling(1.0, model=probabilities)
def bce_second_term_first(m, x):
    y, mu, lv = m(x)
    return -((1 - x) * (1 - y).log()).sum() - (x * y.log()).sum() + kl_sum(mu, lv)


@spelling(1.0)
def bce_logaddexp(m, x):
    y, mu, lv = m(x)
    return (torch.logaddexp(y, torch.zeros_like(y)) - x * y).sum() + kl_sum(mu, lv)


@spelling(0.5)
def mse_of_sigmoid(m, x):
    y, mu, lv = m(x)
    return sse(torch.sigmoid(y), x) + kl_sum(mu, lv)


# ---------------------------------------------------------------- the posterior's arithmetic
@spelling(1.0)
def variance_head(m, x):
    mu, raw = m.enc(x)
    v = F.softplus(raw) + 1e-4
    z = mu + v.sqrt() * torch.randn(v.shape)
    return ((x - m.decoder(z)) ** 2).sum() / 2 + 0.5 * (mu**2 + v - 1 - v.log()).sum()


@spelling(0.5)
def log_sigma_head(m, x):
    mu, log_sigma = m.enc(x)
    y = m.decoder(mu + log_sigma.exp() * torch.randn_like(mu))
    return sse(y, x) + (0.5 * (mu**2 + torch.exp(2 * log_sigma)) - log_sigma - 0.5).sum()


@spelling(0.5)
def softplus_sigma_with_floor(m, x):
    mu, raw = m.enc(x)
    sigma = F.softplus(raw).clamp_min(1e-3)
    y = m.decoder(mu + sigma * torch.randn_like(mu))
    return sse(y, x) + (0.5 * (mu**2 + sigma**2 - 1) - torch.log(sigma)).sum()


@spelling(0.5)
def exponential_as_a_power(m, x):
    mu, lv = m.enc(x)
    y = m.decoder(mu + lv.exp() ** 0.5 * torch.randn_like(mu))
    return sse(y, x) + 0.5 * (torch.expm1(lv) - lv + mu.pow(2)).sum()


@spelling(0.5)
def lerp(m, x):
    mu, lv = m.enc(x)
    z = torch.lerp(mu, mu + torch.exp(lv / 2), torch.randn_like(mu))
    return sse(m.decoder(z), x) + kl_sum(mu, lv)


@spelling(0.5)
def normal_with_generator(m, x):
    mu, lv = m.enc(x)
    eps = torch.normal(0.0, 1.0, size=mu.shape, generator=torch.Generator().manual_seed(3))
    return sse(m.decoder(mu + eps * (lv / 2).exp()), x) + kl_sum(mu, lv)


@spelling(0.5)
def normal_of_tensors(m, x):
    mu, lv = m.enc(x)
    eps = torch.normal(torch.zeros_like(mu), torch.ones_like(mu))
    return sse(m.decoder(mu + eps * (lv / 2).exp()), x) + kl_sum(mu, lv)


@spelling(0.5)
def randn_with_generator(m, x):
    mu, lv = m.enc(x)
    eps = torch.randn(mu.shape, generator=torch.Generator().manual_seed(3))
    return sse(m.decoder(mu + eps * (lv / 2).exp()), x) + kl_sum(mu, lv)


@spelling(0.5)
def eps_scaled_in_place(m, x):
    mu, lv = m.enc(x)
    std = lv.mul(0.5).exp_()
    z = torch.randn_like(std).mul(std).add_(mu)
    return sse(m.decoder(z), x) + kl_sum(mu, lv)


@spelling(0.5)
def variable_style(m, x):
    mu, lv = m.enc(x)
    std = lv.mul(0.5).exp_()
    eps = torch.autograd.Variable(std.data.new(std.size()).normal_())
    y = m.decoder(eps.mul(std).add_(mu))
    kl = mu.pow(2).add_(lv.exp()).mul_(-1).add_(1).add_(lv)
    return sse(y, x) + torch.sum(kl).mul_(-0.5)


@spelling(0.5)
def float_tensor_normal(m, x):
    mu, lv = m.enc(x)
    eps = torch.FloatTensor(lv.size()).normal_()
    return sse(m.decoder(eps.mul(lv.mul(0.5).exp()).add(mu)), x) + kl_sum(mu, lv)


@spelling(0.5)
def augmented_assignment(m, x):
    mu, lv = m.enc(x)
    z = torch.randn_like(mu)
    z = z * torch.exp(0.5 * lv)
    z += mu
    loss = sse(m.decoder(z), x)
    loss += kl_sum(mu, lv)
    return loss


@spelling(0.5)
def noise_before_encoder(m, x):
    eps = torch.randn(len(x), d)
    mu, lv = m.enc(x)
    return sse(m.decoder(mu + eps * (0.5 * lv).exp()), x) + kl_sum(mu, lv)


@spelling(0.5)
def numpy_noise(m, x):
    mu, lv = m.enc(x)
    eps = torch.from_numpy(np.random.default_rng(0).standard_normal((B, d), dtype=np.float32))
    return sse(m.decoder(mu + eps * (0.5 * lv).exp()), x) + kl_sum(mu, lv)


def log_weights(m, x, q):
    """log p(x, z) - log q(z|x), an axis of z for the samples of one example [.., B]."""
    z = q.rsample()
    log_w = -0.5 * ((x - m.decoder(z)) ** 2).sum(-1)
    return log_w + td.Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)


@spelling(1.0)
def importance_weighted_bound(m, x):
    mu, lv = m.enc(x)
    q = td.Normal(mu.expand(5, B, d), (lv / 2).exp().expand(5, B, d))
    return -torch.logsumexp(log_weights(m, x, q), 0).mean()


@spelling(1.0)
def importance_weights_by_softmax(m, x):
    mu, lv = m.enc(x)
    q = td.Normal(mu.expand(5, B, d), (lv / 2).exp().expand(5, B, d))
    log_w = log_weights(m, x, q)
    return -(torch.softmax(log_w, 0).detach() * log_w).sum(0).mean()


@spelling(1.0)
def importance_weighted_bound_of_repeated_rows(m, x):
    mu, lv = m.enc(x)
    many = [t.repeat_interleave(4, 0) for t in (mu, (lv / 2).exp())]
    log_w = log_weights(m, x.repeat_interleave(4, 0), td.Normal(*many)).view(B, 4)
    return -(torch.logsumexp(log_w, 1) - math.log(4)).mean()


@spelling(2.5 / D * D / 5)
def several_samples_averaged(m, x):
    mu, lv = m.enc(x)
    y = m.decoder(mu + (lv / 2).exp() * torch.randn(5, B, d))
    return ((x - y) ** 2).sum(-1).mean() + kl_sum(mu, lv) / B


@spelling(0.5)
def a_draw_and_its_mirror_image(m, x):
    mu, lv = m.enc(x)
    eps = torch.randn(B, d)
    y = m.decoder(mu + (lv / 2).exp() * torch.stack([eps, -eps]))
    return ((x - y) ** 2).sum(-1).mean(0).sum() + kl_sum(mu, lv)


@spelling(0.5)
def noise_in_two_parts(m, x):
    mu, lv = m.enc(x)
    eps = torch.cat([torch.randn(B, 1), torch.randn(B, d - 1)], 1)
    return sse(m.decoder(mu + (lv / 2).exp() * eps), x) + kl_sum(mu, lv)


@spelling(0.5)
def samples_in_a_second_axis(m, x):
    mu, lv = m.enc(x)
    z = mu.unsqueeze(1) + (lv / 2).exp().unsqueeze(1) * torch.randn(B, 4, d)
    y = m.decoder(z)
    return ((x.unsqueeze(1) - y) ** 2).sum(-1).mean(1).sum() + kl_sum(mu, lv)


@spelling(harmonic_decoded_variance, model=Heteroscedastic)
def several_samples_with_a_decoded_variance(m, x):
    mu, lv = m.enc(x)
    z = td.Normal(mu, (lv / 2).exp()).rsample([3])
    y, log_variance = m.decoder(z), m.variance(z)
    nll = -td.Normal(y, (log_variance / 2).exp()).log_prob(x.unsqueeze(0)).mean(0)
    return nll.sum() + kl_sum(mu, lv)


@spelling(0.5)
def multivariate_normal_diagonal(m, x):
    mu, lv = m.enc(x)
    q = td.MultivariateNormal(mu, scale_tril=torch.diag_embed((lv / 2).exp()), validate_args=False)
    prior = td.MultivariateNormal(torch.zeros(d), torch.eye(d), validate_args=False)
    return sse(m.decoder(q.rsample()), x) + td.kl_divergence(q, prior).sum()


@spelling(2.0)
def constant_sigma_at_the_sample(m, x):
    """Log q has no gradient but through z."""
    mu, _ = m.enc(x)
    eps = torch.randn_like(mu)
    z = mu + 0.5 * eps
    return 0.5 * sse(m.decoder(z), x) + 2 * 0.5 * (z**2 - eps**2).sum()


@spelling(0.5)
def constant_sigma(m, x):
    mu, _ = m.enc(x)
    return sse(m.decoder(mu + 0.3 * torch.randn_like(mu)), x) + 0.5 * mu.pow(2).sum()


@spelling(0.5, model=lambda: (VAE(), nn.Parameter(torch.full((d,), -1.0))))
def sigma_is_a_parameter(m, x):
    m, lv = m
    mu, _ = m.enc(x)
    y = m.decoder(mu + (lv / 2).exp() * torch.randn_like(mu))
    return sse(y, x) + 0.5 * (mu**2 + lv.exp() - lv - 1).sum()


@spelling(0.5)
def tanh_bounded_log_variance(m, x):
    mu, raw = m.enc(x)
    lv = 4 * torch.tanh(raw)
    return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv)


@spelling(0.5)
def log_normal_latent(m, x):
    mu, lv = m.enc(x)  # the exponential is the first function of the decoder: the KL is the Gaussians'
    return sse(m.decoder(reparameterise(mu, lv).exp()), x) + kl_sum(mu, lv)


# ---------------------------------------------------------------- heads
class Weights:
    """No module at all: tensors that require a gradient."""

    def __init__(self):
        def weight(*shape):
            return (torch.randn(shape) / shape[0] ** 0.5).requires_grad_()

        self.w1, self.b1, self.w_mu, self.w_lv = (
            weight(D, 20),
            weight(20),
            weight(20, d),
            weight(20, d),
        )
        self.w2, self.b2, self.w3 = weight(d, 20), weight(20), weight(20, D)


@spelling(0.5, model=Weights)
def functional_weights(w, x):
    h = torch.relu(x @ w.w1 + w.b1)
    mu, lv = h @ w.w_mu, h @ w.w_lv
    z = mu + torch.randn_like(mu) * (lv / 2).exp()
    return ((torch.relu(z @ w.w2 + w.b2) @ w.w3 - x) ** 2).sum() + kl_sum(mu, lv)


@spelling(0.5, model=Weights)
def einsum_heads(w, x):
    h = torch.tanh(torch.einsum("bi,io->bo", x, w.w1))
    mu, lv = torch.einsum("bi,io->bo", h, w.w_mu), torch.einsum("bi,io->bo", h, w.w_lv)
    z = mu + torch.randn_like(mu) * (lv / 2).exp()
    y = torch.einsum("bi,ij,jk->bk", z, w.w2, w.w3)
    return ((y - x) ** 2).sum() + kl_sum(mu, lv)


@spelling(0.5, model=Weights)
def addmm_and_baddbmm_heads(w, x):
    h = torch.addmm(w.b1, x, w.w1).relu()
    heads = torch.stack([w.w_mu, w.w_lv])
    mu, lv = torch.baddbmm(torch.zeros(2, B, d), h.expand(2, B, 20), heads)
    z = mu + torch.randn_like(mu) * (lv / 2).exp()
    y = torch.mm(torch.addmm(w.b2, z, w.w2).relu(), w.w3)
    return ((y - x) ** 2).sum() + kl_sum(mu, lv)


class BilinearVAE(VAE):
    def __init__(self):
        super().__init__()
        self.mu, self.lv, self.mix = (
            nn.Bilinear(24, 24, d),
            nn.Bilinear(24, 24, d),
            nn.Bilinear(d, d, 24),
        )
        self.last = nn.Linear(24, D)


@spelling(0.5, model=BilinearVAE)
def bilinear_heads_and_decoder(m, x):
    h = m.body(x)
    mu, lv = m.mu(h, h), m.lv(h, h)
    z = reparameterise(mu, lv)
    return sse(m.last(F.relu(m.mix(z, z))), x) + kl_sum(mu, lv)


@spelling(0.5)
def heads_unbound_from_a_view(m, x):
    mu, lv = m.head(m.body(x)).view(B, 2, d).unbind(1)
    return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv)


@spelling(0.5)
def interleaved_heads(m, x):
    h = m.head(m.body(x))
    mu, lv = h[:, 0::2], h[..., 1::2]
    return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv)


class NormedMu(VAE):
    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm1d(d)


@spelling(0.5, model=NormedMu)
def batch_norm_on_mu(m, x):
    mu, lv = m.enc(x)
    mu = m.bn(mu)
    return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv)


# ---------------------------------------------------------------- architectures
class Conv(nn.Module):
    """A latent with spatial axes: z is (B, 1, 2, 2)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8, 2, 3, 2, 1),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(1, 8, 4, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh(),
        )  # fmt: skip


@spelling(0.1, model=Conv, data=lambda: images() * 2 - 1)
def conv_batch_norm_tanh(m, x):
    h = m.encoder(x)
    mu, lv = h[:, :1], h[:, 1:]
    y = m.decoder(mu + torch.randn_like(lv) * (lv / 2).exp())
    return F.mse_loss(y, x, reduction="none").sum((1, 2, 3)).mean() + 0.2 * kl_sum(mu, lv) / len(x)


@spelling(0.5, model=Conv, data=lambda: images().to(memory_format=torch.channels_last))
def conv_split_channels(m, x):
    mu, lv = torch.split(m.encoder(x), 1, dim=1)
    return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv)


class Broadcast(nn.Module):
    """Spatial broadcast decoder: z is repeated at each pixel beside its coordinates."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2 * d))
        self.decoder = nn.Sequential(nn.Conv2d(d + 2, 8, 1), nn.ReLU(), nn.Conv2d(8, 1, 1))
        axis = torch.linspace(-1, 1, 8)
        self.register_buffer("grid", torch.stack(torch.meshgrid(axis, axis, indexing="ij"))[None])


@spelling(0.5, model=Broadcast, data=images)
def spatial_broadcast_decoder(m, x):
    mu, lv = m.encoder(x).chunk(2, 1)
    z = reparameterise(mu, lv)[:, :, None, None].expand(-1, -1, 8, 8)
    y = m.decoder(torch.cat([z, m.grid.expand(B, -1, -1, -1)], 1))
    return sse(y, x) + kl_sum(mu, lv)


class Parametrised(VAE):
    def __init__(self, *wrappers):
        super().__init__()
        with_weight_norm, with_spectral_norm = wrappers
        self.decoder[0] = with_weight_norm(self.decoder[0])
        self.decoder[4] = with_spectral_norm(self.decoder[4])


@spelling(
    0.5,
    model=lambda: Parametrised(nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm),
)
def weight_and_spectral_norm(m, x):
    return mse_sum_kl_sum(m, x)


@spelling(0.5, model=lambda: Parametrised(nn.utils.spectral_norm, nn.utils.spectral_norm))
def spectral_norm_by_hook(m, x):
    return mse_sum_kl_sum(m, x)


class Residual(VAE):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 24))
        self.inner = nn.Linear(d, d)

    def enc(self, x):
        h = self.body(x)
        return self.head(h + self.block(h)).chunk(2, 1)


@spelling(0.5, model=Residual)
def residual_blocks(m, x):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    return sse(m.decoder(z + torch.tanh(m.inner(z))), x) + kl_sum(mu, lv)


@spelling(0.5, model=lambda: VAE(drop=0.3))
def dropout_in_both(m, x):
    return mse_sum_kl_sum(m, x)


@spelling(0.5)
def checkpointed_decoder(m, x):
    mu, lv = m.enc(x)
    y = checkpoint(m.decoder, reparameterise(mu, lv), use_reentrant=False)
    return sse(y, x) + kl_sum(mu, lv)


@spelling(0.5)
def functional_call(m, x):
    y, mu, lv = torch.func.functional_call(m, dict(m.named_parameters()), (x,))
    return sse(y, x) + kl_sum(mu, lv)


@spelling(0.5, model=lambda: VAE().double(), data=lambda: torch.rand(B, D).double())
def double_precision(m, x):
    return mse_sum_kl_sum(m, x)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.encoder, self.decoder = kind(3, 8, batch_first=True), kind(d, 8, batch_first=True)
        self.mu, self.lv, self.out = nn.Linear(8, d), nn.Linear(8, d), nn.Linear(8, 3)


def sequences():
    return torch.rand(B, 4, 3)


def recurrent_step(m, x):
    h = m.encoder(x)[1]
    h = (h[0] if isinstance(h, tuple) else h)[-1]
    mu, lv = m.mu(h), m.lv(h)
    z = reparameterise(mu, lv)
    y = m.out(m.decoder(z.unsqueeze(1).repeat(1, x.shape[1], 1))[0])
    return sse(y, x) + kl_sum(mu, lv)


@spelling(0.5, model=lambda: Recurrent(nn.LSTM), data=sequences)
def lstm(m, x):
    return recurrent_step(m, x)


@spelling(0.5, model=lambda: Recurrent(nn.GRU), data=sequences)
def gru(m, x):
    return recurrent_step(m, x)


@spelling(0.5, model=lambda: (Recurrent(nn.LSTM), nn.LSTMCell(d, 8)), data=sequences)
def lstm_cell_decoder(m, x):
    m, cell = m
    h = m.encoder(x)[0][:, -1]
    mu, lv = m.mu(h), m.lv(h)
    z, state, out = reparameterise(mu, lv), None, []
    for _ in range(x.shape[1]):
        state = cell(z, state)
        out.append(m.out(state[0]))
    return sse(torch.stack(out, 1), x) + kl_sum(mu, lv)


class Transformer(nn.Module):
    """Tokens in, tokens out: the decoder's positions attend to z and see nothing else of x."""

    def __init__(self, classes=7):
        super().__init__()
        self.embed, self.position = nn.Embedding(classes, 8), nn.Parameter(torch.randn(5, 8))
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head, self.up, self.out = nn.Linear(8, 2 * d), nn.Linear(d, 8), nn.Linear(8, classes)

    def enc(self, x):
        return self.head(self.encoder(self.embed(x) + self.position).mean(1)).chunk(2, -1)

    def dec(self, z):
        memory = self.up(z).unsqueeze(1)
        return self.out(memory + self.attend(self.position.expand(len(z), -1, -1), memory, memory)[0])


@spelling(1.0, model=Transformer, data=tokens)
def transformer_over_tokens(m, x):
    mu, lv = m.enc(x)
    logits = m.dec(reparameterise(mu, lv))
    return F.cross_entropy(logits.view(-1, 7), x.view(-1), reduction="sum") + kl_sum(mu, lv)


@spelling(5.0, model=Bag, data=tokens)
def token_cross_entropy_mean(m, x):
    logits, mu, lv = m(x)
    return F.cross_entropy(logits.transpose(1, 2), x) + kl_sum(mu, lv) / B


@spelling(1.0, model=Bag, data=tokens)
def token_log_softmax_nll(m, x):
    logits, mu, lv = m(x)
    log_p = F.log_softmax(logits, -1)
    return F.nll_loss(log_p.flatten(0, 1), x.flatten(), reduction="sum") + kl_sum(mu, lv)


@spelling(1.0, model=Bag, data=tokens)
def padded_tokens_left_out(m, x):
    logits, mu, lv = m(x)
    log_p = F.log_softmax(logits, -1)
    return F.nll_loss(log_p.flatten(0, 1), x.flatten(), ignore_index=0, reduction="sum") + kl_sum(mu, lv)


@spelling(1.0, model=Bag, data=tokens)
def padding_marked_by_a_negative_class(m, x):
    logits, mu, lv = m(x)
    wanted = x.masked_fill(x == 0, -100)
    return F.cross_entropy(logits.transpose(1, 2), wanted, reduction="sum") + kl_sum(mu, lv)


@spelling(1.0, model=Bag, data=tokens)
def token_gathered_log_softmax(m, x):
    logits, mu, lv = m(x)
    log_p = logits.log_softmax(-1).gather(-1, x.unsqueeze(-1))
    return -log_p.sum() + kl_sum(mu, lv)


@spelling(1.0, model=Bag, data=tokens)
def token_categorical_log_prob(m, x):
    logits, mu, lv = m(x)
    p = td.Categorical(logits=logits, validate_args=False)
    return -p.log_prob(x).sum() + kl_sum(mu, lv)


@spelling(1.0, model=Bag, data=tokens)
def token_log_of_gathered_softmax(m, x):
    logits, mu, lv = m(x)
    return -logits.softmax(-1).gather(-1, x.unsqueeze(-1)).log().sum() + kl_sum(mu, lv)


def hot(x, logits):
    return F.one_hot(x, logits.shape[-1])


@spelling(1.0, model=Bag, data=tokens)
def token_one_hot_times_log_softmax(m, x):
    logits, mu, lv = m(x)
    return -(hot(x, logits) * logits.log_softmax(-1)).sum() + kl_sum(mu, lv)


@spelling(1.0, model=Bag, data=tokens)
def token_one_hot_times_guarded_log(m, x):
    logits, mu, lv = m(x)
    return -(hot(x, logits) * (logits.softmax(-1) + 1e-9).log()).sum() + kl_sum(mu, lv)


@spelling(1.0, model=Bag, data=tokens)
def token_one_hot_times_log_of_clamped(m, x):
    logits, mu, lv = m(x)
    return -(hot(x, logits) * logits.softmax(-1).clamp(1e-5, 1 - 1e-5).log()).sum() + kl_sum(mu, lv)


@spelling(1.0, model=Bag, data=tokens)
def token_log_partition_less_chosen(m, x):
    logits, mu, lv = m(x)
    return (logits.logsumexp(-1) - (hot(x, logits) * logits).sum(-1)).sum() + kl_sum(mu, lv)


@spelling(1.0, model=Bag, data=tokens)
def token_zero_is_ignored(m, x):
    logits, mu, lv = m(x)
    rec = F.cross_entropy(logits.flatten(0, 1), x.flatten(), ignore_index=0, reduction="sum")
    return rec + kl_sum(mu, lv)


@spelling(1.0, data=lambda: torch.randint(1, 5, (B, D)).float())
def poisson_rates_times_a_total(m, x):
    y, mu, lv = m(x.log1p())
    rates = x.sum(1, keepdim=True) * y.softmax(1)
    return (rates - x * rates.log()).sum() + kl_sum(mu, lv)


@spelling(1.0, data=lambda: torch.randint(0, 5, (B, D)).float())
def multinomial_counts(m, x):
    y, mu, lv = m(x.log1p())
    return -(x * y.log_softmax(1)).sum(1).mean() + kl_sum(mu, lv) / B


def with_gaps():
    x = torch.randn(B, D)
    return x.masked_fill(torch.rand(B, D) < 0.2, math.nan)


@spelling(0.5, data=with_gaps)
def squared_error_of_what_is_known(m, x):
    y, mu, lv = m(x.nan_to_num())
    return ((y - x.nan_to_num()) ** 2 * ~x.isnan()).sum() + kl_sum(mu, lv)


class Palette(nn.Module):
    """Images of class indices: (B, H, W) in, logits (B, C, H, W) out."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(4, 4, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2 * d))
        self.decoder = nn.Sequential(nn.Linear(d, 16), nn.Unflatten(1, (4, 2, 2)), nn.ConvTranspose2d(4, 4, 2, 2))

    def forward(self, x):
        shown = F.one_hot(x, 4).permute(0, 3, 1, 2).float()
        mu, lv = self.encoder(shown).chunk(2, 1)
        return self.decoder(reparameterise(mu, lv)), mu, lv


@spelling(1.0, model=Palette, data=lambda: torch.randint(0, 4, (B, 4, 4)))
def categorical_pixels(m, x):
    logits, mu, lv = m(x)
    return F.cross_entropy(logits, x, reduction="none").sum((1, 2)).mean() + kl_sum(mu, lv) / B


class Conditional(VAE):
    def __init__(self):
        super().__init__()
        self.body[0], self.decoder[0] = nn.Linear(D + 4, 24), nn.Linear(d + 4, 24)


@spelling(0.5, model=Conditional, data=labelled)
def conditional(m, x, label):
    mu, lv = m.enc(torch.cat([x, label], 1))
    return sse(m.decoder(torch.cat([reparameterise(mu, lv), label], 1)), x) + kl_sum(mu, lv)


class EmbeddedLabel(Conditional):
    def __init__(self):
        super().__init__()
        self.label = nn.Embedding(4, 4)


@spelling(0.5, model=EmbeddedLabel, data=lambda: (pixels(), torch.arange(B) % 4))
def conditional_on_embedded_label(m, x, label):
    y = m.label(label)
    mu, lv = m.enc(torch.cat((x, y), -1))
    return sse(m.decoder(torch.cat((reparameterise(mu, lv), y), -1)), x) + kl_sum(mu, lv)


@spelling(0.5)
def denoising(m, x):
    y, mu, lv = m(x + 0.1 * torch.randn_like(x))
    return sse(y, x) + kl_sum(mu, lv)


@spelling(0.5)
def masked_input(m, x):
    y, mu, lv = m(x * torch.bernoulli(torch.full_like(x, 0.8)))
    return sse(y, x) + kl_sum(mu, lv)


@spelling(0.5)
def gaussian_dropout_on_hidden(m, x):
    h = m.body(x)
    mu, lv = m.head(h * (1 + 0.1 * torch.randn_like(h))).chunk(2, 1)
    return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv)


@spelling(0.5)
def scaled_inside_the_step(m, x):
    x = x.view(B, -1).sub(0.5).div(0.5)
    y, mu, lv = m(x)
    return sse(y, x) + kl_sum(mu, lv)


@spelling(1.0, model=probabilities)
def dynamically_binarised(m, x):
    x = torch.bernoulli(x)
    y, mu, lv = m(x)
    return F.binary_cross_entropy(y, x, reduction="sum") + kl_sum(mu, lv)


class GraphWeights:
    def __init__(self):
        self.w = (torch.randn(D, 8) / 3).requires_grad_()
        self.heads = (torch.randn(8, 2 * d) / 3).requires_grad_()


def graphs():
    adjacency = (torch.rand(B, B) < 0.3).float()
    return torch.rand(B, D), ((adjacency + adjacency.T) > 0).float()


@spelling(1.0, model=GraphWeights, data=graphs)
def inner_product_decoder_of_a_graph(w, x, adjacency):
    h = torch.relu(adjacency @ (x @ w.w))
    mu, lv = (adjacency @ (h @ w.heads)).chunk(2, 1)
    z = reparameterise(mu, lv)
    edges = F.binary_cross_entropy_with_logits(z @ z.T, adjacency, reduction="sum")
    return edges + kl_sum(mu, lv)


def sparse_graphs():
    x, adjacency = graphs()
    return x.to_sparse(), adjacency.to_sparse()


@spelling(1.0, model=GraphWeights, data=sparse_graphs)
def a_graph_of_sparse_links_and_features(w, x, adjacency):
    h = torch.relu(torch.sparse.mm(adjacency, torch.mm(x, w.w)))
    mu, lv = torch.mm(adjacency, h @ w.heads).chunk(2, 1)
    z = reparameterise(mu, lv)
    edges = F.binary_cross_entropy_with_logits(z @ z.T, adjacency.to_dense(), reduction="sum")
    return edges + kl_sum(mu, lv)


# ---------------------------------------------------------------- training machinery
@spelling(0.5)
def two_backward_roots(m, x):
    y, mu, lv = m(x)
    return sse(y, x), kl_sum(mu, lv)


@spelling(0.5)
def bf16_autocast(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return mse_sum_kl_sum(m, x)


@spelling(0.5)
def autocast_loss_in_float(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, mu, lv = m(x)
    return sse(y.float(), x) + kl_sum(mu.float(), lv.float())


@spelling(0.5)
def scaled_for_half_precision(m, x):
    return mse_sum_kl_sum(m, x) * torch.tensor(65536.0) / 4


@spelling(0.5)
def l2_on_parameters(m, x):
    return mse_sum_kl_sum(m, x) + 0.1 * sum((p**2).sum() for p in m.parameters())


@spelling(0.5 * 0.25)
def annealed_by_python_number(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + min(1.0, 250 / 1000) * kl_sum(mu, lv)


@spelling(0.5 / (1 + math.exp(2.0)))
def annealed_by_tensor(m, x):
    y, mu, lv = m(x)
    beta = torch.sigmoid(torch.tensor(-2.0, dtype=torch.float64))
    return sse(y, x) + beta * kl_sum(mu, lv)


@spelling(0.5 * 0.003)
def weighted_by_parameter_without_gradient(m, x):
    y, mu, lv = m(x)
    beta = nn.Parameter(torch.tensor(0.003, dtype=torch.float64), requires_grad=False)
    return sse(y, x) + beta * kl_sum(mu, lv)


@spelling(0.5)
def monitored(m, x):
    y, mu, lv = m(x)
    recon, kl = sse(y, x), kl_sum(mu, lv)
    with torch.no_grad():
        (y - x).abs().mean().item(), mu.std(0), F.l1_loss(y, x)
    kl.detach().clone()
    return recon + kl


@spelling(0.5)
def other_head_in_the_loss(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + kl_sum(mu, lv) + 0.0 * y.mean()


# ---------------------------------------------------------------- degenerate encoders
def shrunk(factor):
    def build():
        m = VAE()
        with torch.no_grad():
            m.head.weight.mul_(factor)
            m.head.bias.mul_(factor)
        return m

    return build


@spelling(D / 2, model=shrunk(1e-2))
def nearly_collapsed(m, x):
    return mse_mean_kl_sum_over_latents(m, x)


@spelling(D / 2, model=shrunk(1e-6))
def collapsed_to_a_millionth(m, x):
    return mse_mean_kl_sum_over_latents(m, x)


@spelling(D / 2, model=shrunk(0.0))
def collapsed_exactly(m, x):
    return mse_mean_kl_sum_over_latents(m, x)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_correct_spelling_gives_s_exactly(case):
    step, data, model = case.build()

    found = audit(step, *data)

    assert found.lineage.posterior == "diagonal Gaussian"
    assert found.lineage.notes == []
    assert found.regulariser.form == "exact", found.regulariser
    assert found.regulariser.mistake == ""
    assert found.likelihood.family not in {"unknown", "none", "swapped bernoulli", "batch mean"}
    assert found.likelihood.sign == 1
    assert found.likelihood.broadcast is None
    assert found.objective().not_auditable == ""
    assert found.s == pytest.approx(expected(case, found, model), rel=1e-6)


def expected(case, found, model):
    if not callable(case.expected):
        return case.expected
    takes_model = case.expected.__code__.co_argcount == 2
    return case.expected(found, model) if takes_model else case.expected(found)


# ---------------------------------------------------------------- correct, and not plain
BOUNDED = []
bounded = collector(BOUNDED)


def kl_by_unit(mu, lv):
    return -0.5 * (1 + lv - mu**2 - lv.exp())


@bounded(0.5)
def free_bits_by_unit(m, x):
    y, mu, lv = m(x)
    return sse(y, x) / B + kl_by_unit(mu, lv).mean(0).clamp_min(0.08).sum()


@bounded(0.5)
def free_bits_by_unit_many(m, x):
    y, mu, lv = m(x)
    return sse(y, x) / B + torch.maximum(kl_by_unit(mu, lv).mean(0), torch.tensor(0.8)).sum()


@bounded(0.5)
def free_nats_of_the_sum(m, x):
    y, mu, lv = m(x)
    return sse(y, x) / B + kl_by_unit(mu, lv).sum(1).mean().clamp(min=8.0)


@bounded(15.0)
def capacity(m, x):
    y, mu, lv = m(x)
    return sse(y, x) / B + 30 * (kl_by_unit(mu, lv).sum(1).mean() - 20.0).abs()


@pytest.mark.parametrize("case", BOUNDED, ids=lambda c: c.name)
def test_a_bounded_kl_is_not_accused(case):
    step, data, _ = case.build()

    found = audit(step, *data)

    assert found.regulariser.form in {"exact", "free bits"}
    assert found.s == pytest.approx(case.expected, rel=1e-6)
    assert found.objective().not_auditable == ""


class PriorByUnit(VAE):
    def __init__(self):
        super().__init__()
        self.mean, self.log_sd = nn.Parameter(torch.randn(d)), nn.Parameter(torch.randn(d) * 0.3)


def test_a_learned_prior_is_recognised():
    torch.manual_seed(0)
    m = PriorByUnit()

    def step(x):
        mu, lv = m.enc(x)
        q = td.Normal(mu, (lv / 2).exp())
        rate = td.kl_divergence(q, td.Normal(m.mean, m.log_sd.exp())).sum()
        return sse(m.decoder(q.rsample()), x) + rate

    found = audit(step, pixels())

    assert found.regulariser.form == "learned prior"
    assert found.s == pytest.approx(0.5, rel=1e-6)
    assert found.regulariser.prior_mean == pytest.approx(float(m.mean.detach().mean()), rel=1e-5)
    assert found.regulariser.prior_sd == pytest.approx(float(m.log_sd.detach().exp().mean()), rel=1e-5)


class MixturePrior(VAE):
    """Gaussians with learned weights, means and variances."""

    def __init__(self):
        super().__init__()
        self.means, self.weights = nn.Parameter(torch.randn(4, d)), nn.Parameter(torch.randn(4))
        self.logvars = nn.Parameter(0.5 * torch.randn(4, d))

    def components(self):
        return self.means, self.logvars


class VampPrior(MixturePrior):
    """The encoder's posteriors of learned examples."""

    def __init__(self):
        super().__init__()
        self.examples = nn.Parameter(torch.rand(4, D))

    def components(self):
        return self.enc(self.examples)


@pytest.mark.parametrize("closed_entropy", [False, True])
@pytest.mark.parametrize("weight", [1.0, 4.0])
@pytest.mark.parametrize("prior", [MixturePrior, VampPrior])
def test_the_weight_of_a_kl_to_any_density_is_read(prior, weight, closed_entropy):
    """log q - log p at the sample; a mixture's log p has no closed form, and none is needed."""
    torch.manual_seed(0)
    m = prior()

    def step(x):
        mu, lv = m.enc(x)
        q = td.Normal(mu, (lv / 2).exp())
        z = q.rsample()
        means, logvars = m.components()
        each = td.Normal(means, (logvars / 2).exp()).log_prob(z[:, None]).sum(-1)
        log_p = torch.logsumexp(each + m.weights.log_softmax(0), 1).sum()
        log_q = -q.entropy().sum() if closed_entropy else q.log_prob(z).sum()
        return sse(m.decoder(z), x) + weight * (log_q - log_p)

    found = audit(step, pixels())

    assert found.regulariser.form == "prior density"
    assert found.regulariser.own_prior
    assert found.s == pytest.approx(weight / 2, rel=1e-6)
    assert found.objective().not_auditable == ""
    assert found.objective().weight_known


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_so_is_it_from_several_samples_of_each_example(weight, repeated):
    """Along an axis of their own (`rsample((3,))`), or as rows that are repeated."""
    torch.manual_seed(0)
    m = MixturePrior()

    def step(x):
        mu, lv = m.enc(x)
        if repeated:
            mu, lv, x = mu.repeat(3, 1), lv.repeat(3, 1), x.repeat(3, 1)
        q = td.Normal(mu, (lv / 2).exp())
        z = q.rsample() if repeated else q.rsample((3,))
        each = td.Normal(m.means, (m.logvars / 2).exp()).log_prob(z[..., None, :]).sum(-1)
        log_p = torch.logsumexp(each + m.weights.log_softmax(0), -1).sum() / 3
        return sse(m.decoder(z), x.expand(*z.shape[:-1], -1)) / 3 + weight * (q.log_prob(z).sum() / 3 - log_p)

    found = audit(step, pixels())

    assert found.regulariser.form == "prior density"
    assert found.s == pytest.approx(weight / 2, rel=1e-6)
    assert found.objective().not_auditable == ""


@pytest.mark.parametrize("entropy", [0.5, 0.0])
def test_several_samples_of_another_weight_than_the_prior_are_no_kl(entropy):
    torch.manual_seed(0)
    m = MixturePrior()

    def step(x):
        mu, lv = m.enc(x)
        z = td.Normal(mu, (lv / 2).exp()).rsample((3,))
        log_p = torch.logsumexp(td.Normal(m.means, 1.0).log_prob(z[..., None, :]).sum(-1), -1).sum() / 3
        return sse(m.decoder(z), x.expand(3, -1, -1)) / 3 - log_p + 0.5 * mu.square().sum() - entropy * lv.sum()

    assert audit(step, pixels()).regulariser.form == "unknown"


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 0.5**0.5), (1.0, 2.0)])
def test_a_gaussian_told_by_samples_is_read_as_that_gaussian(mean, sd):
    """`-(z ** 2).sum()` for log p(z), say: a half forgotten is another prior."""
    torch.manual_seed(0)
    m = VAE()

    def step(x):
        mu, lv = m.enc(x)
        q = td.Normal(mu, (lv / 2).exp())
        z = q.rsample()
        return sse(m.decoder(z), x) + q.log_prob(z).sum() - td.Normal(mean, sd).log_prob(z).sum()

    found = audit(step, pixels()).regulariser

    assert (found.form, found.monte_carlo) == ("learned prior", True)
    assert (found.prior_mean, found.prior_sd) == (pytest.approx(mean, abs=1e-6), pytest.approx(sd, rel=1e-6))


@pytest.mark.parametrize(("mean", "sd", "entropy", "form"), [
    (0.0, 1.0, 1.0, "exact"), (1.0, 2.0, 1.0, "learned prior"), (0.0, 1.0, 0.0, "wrong"),
])  # fmt: skip
def test_along_the_path_alone(mean, sd, entropy, form):
    """With q held fixed in log q; and without log q, which is no KL."""
    torch.manual_seed(0)
    m = VAE()

    def step(x):
        mu, lv = m.enc(x)
        std = (lv / 2).exp()
        z = mu + std * torch.randn_like(mu)
        log_q = td.Normal(mu.detach(), std.detach()).log_prob(z).sum()
        return sse(m.decoder(z), x) + entropy * log_q - td.Normal(mean, sd).log_prob(z).sum()

    found = audit(step, pixels()).regulariser

    assert (found.form in {"wrong", "unknown"}) if form == "wrong" else (found.form == form)
    if form == "learned prior":
        assert (found.prior_mean, found.prior_sd) == (pytest.approx(mean, abs=1e-6), pytest.approx(sd, rel=1e-6))


@pytest.mark.parametrize(("weight", "entropy", "told"), [
    (1.0, 1.0, True), (2.5, 1.0, True), (1.0, 0.0, False), (1.0, -1.0, False),
])  # fmt: skip
@pytest.mark.parametrize("prior", [MixturePrior, VampPrior])
def test_a_density_prior_along_the_path(prior, weight, entropy, told):
    """Roeder, Wu & Duvenaud 2017 with Tomczak & Welling 2018; without log q, or with its sign turned, it is no KL."""
    torch.manual_seed(0)
    m = prior()

    def step(x):
        mu, lv = m.enc(x)
        std = (lv / 2).exp()
        z = mu + std * torch.randn_like(mu)
        log_q = td.Normal(mu.detach(), std.detach()).log_prob(z).sum()
        log_p = torch.logsumexp(td.Normal(m.components()[0], 1.0).log_prob(z[:, None]).sum(-1), 1).sum()
        return sse(m.decoder(z), x) + weight * (entropy * log_q - log_p)

    found = audit(step, pixels()).regulariser

    assert (found.form == "prior density") == told
    if told:
        assert found.weight == pytest.approx(weight, rel=1e-6)


def test_a_density_prior_with_two_weights_is_no_kl():
    torch.manual_seed(0)
    m = MixturePrior()

    def step(x):
        mu, lv = m.enc(x)
        z = reparameterise(mu, lv)
        log_p = torch.logsumexp(td.Normal(m.means, 1.0).log_prob(z[:, None]).sum(-1), 1).sum()
        return sse(m.decoder(z), x) - log_p + 0.5 * mu.square().sum() - lv.sum()

    assert audit(step, pixels()).regulariser.form == "unknown"


@pytest.mark.parametrize("batch", [8, 16, 32])
def test_s_shows_a_reduction_that_leaves_the_batch_in(batch):
    torch.manual_seed(0)
    m = VAE()

    def step(x):
        y, mu, lv = m(x)
        return sse(y, x) / len(x) + kl_sum(mu, lv)

    found = audit(step, torch.rand(batch, D))

    assert found.s == pytest.approx(batch / 2, rel=1e-6)
    assert found.objective().noise_variance_half_batch == pytest.approx(batch / 4, rel=1e-6)


@pytest.mark.parametrize(("pull", "family"), [
    (lambda r, x: torch.where(x == 0, 5e-6, 0.0), "unknown"),  # a summed term, where it counts
    (lambda r, x: r / (1 + r**2), "error"),
])  # fmt: skip
def test_an_error_pulls_by_the_difference_alone(pull, family):
    made = torch.Generator().manual_seed(2)
    y = torch.rand(2000, generator=made).double()
    x = torch.where(torch.rand(2000, generator=made) < 0.7, 0.0, 3.0 * torch.rand(2000, generator=made)).double()
    x = torch.where((x > 0) | (y > 0), x, 0.0)
    found = _by_residual(pull(y - x, x), Likelihood("unknown", math.nan, 1.0, Meeting(0, 0, 1, None), y, x), y - x)
    assert found.family == family
