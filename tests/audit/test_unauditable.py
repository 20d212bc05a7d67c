"""What the audit cannot judge: it must say so, by name, and neither accuse nor clear."""

import pytest
import torch
import torch.distributions as td
import torch.nn.functional as F
from steps import (
    VAE,
    B,
    D,
    audit,
    collector,
    d,
    kl_sum,
    pixels,
    record,
    reparameterise,
    sse,
    tokens,
)
from torch import nn

from whyvae.audit.regulariser import ALIKE
from whyvae.probes.target import TargetMatch
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.lineage import NoVAE, find, find_deterministic

CASES = []
unauditable = collector(CASES)
NO_VAE = []
not_a_vae = collector(NO_VAE)


# ---------------------------------------------------------------- how a case is named
def posterior(kind):
    def check(a):
        assert a.lineage.posterior == kind
        assert a.objective().not_auditable != ""

    return check


def named(*words):
    """The regulariser is no Gaussian KL, and the objective says why it is not judged."""

    def check(a):
        assert a.regulariser.form == "unknown"
        for word in words:
            assert word in a.objective().not_auditable

    return check


def noted(*words):
    """One sentence of the lineage's notes has all these words."""

    def check(a):
        assert any(all(w in note for w in words) for note in a.lineage.notes), a.lineage.notes

    return check


def likelihood_not_recognised(a):
    assert a.likelihood.family == "unknown"
    assert not a.objective().weight_known


def likelihood_of_no_name(a):
    """Its weight is read all the same, off the spread and the bend of its gradient."""
    assert a.likelihood.family == "density"
    assert a.objective().weight_known


def normal_sample(mu, lv):
    q = td.Normal(mu, (lv / 2).exp())
    return q, q.rsample()


# ---------------------------------------------------------------- weights
WEIGHTS = torch.linspace(0.2, 2, B)


@unauditable(named("weighs its two terms together"))
def examples_weighed_from_outside(m, x):
    y, mu, lv = m(x)
    kl = -0.5 * (1 + lv - mu**2 - lv.exp()).sum(1)
    return (WEIGHTS * ((y - x).square().sum(1) + kl)).mean()


def audited_after_all(a):
    """The weights of the draws of an example sum to one, so that its entropy counts once."""
    assert a.regulariser.form == "exact"
    assert a.regulariser.weight == pytest.approx(1 / (5 * B))  # for each of five draws


@unauditable(audited_after_all)
def importance_weights_that_leave_the_graph_as_data(m, x):
    """Burda et al. 2016 as it was written in 2017."""
    mu, lv = m.enc(x)
    eps = torch.autograd.Variable(lv.data.new(5, *lv.shape).normal_())
    z = mu + (lv / 2).exp() * eps
    y = torch.sigmoid(m.decoder(z))
    log_p = -0.5 * z.square().sum(-1) + (x * y.log() + (1 - x) * (1 - y).log()).sum(-1)
    log_w = log_p + 0.5 * (eps.square() + lv).sum(-1)
    w = torch.exp(log_w - log_w.max(0)[0])
    w = torch.autograd.Variable((w / w.sum(0)).data, requires_grad=False)
    return -(w * log_w).sum(0).mean()


# ---------------------------------------------------------------- posteriors
class Hierarchy(VAE):
    def __init__(self):
        super().__init__()
        self.above, self.prior = nn.Linear(d, 2 * d), nn.Linear(d, 2 * d)


def hierarchy_named(a):
    posterior("hierarchy")(a)
    noted("hierarchy", "not audited")(a)


@unauditable(hierarchy_named, model=Hierarchy)
def two_layers_of_latents(m, x):
    mu, lv = m.enc(x)
    z1 = reparameterise(mu, lv)
    mu2, lv2 = m.above(z1).chunk(2, 1)
    y = m.decoder(reparameterise(mu2, lv2))
    return sse(y, x) + kl_sum(mu, lv) + kl_sum(mu2, lv2)


class Merging(VAE):
    """A ladder: what comes from above is merged with what the encoder says, in many sums and products of its own."""

    def __init__(self):
        super().__init__()
        self.above, self.down = nn.Linear(24, 2 * d), nn.ModuleList(nn.Linear(d, 2 * d) for _ in range(6))


def merged(mu, lv, mu2, lv2):
    """Precision-weighted mean and log-variance of two Gaussians."""
    p, p2 = 1 / lv.exp(), 1 / lv2.exp()
    return (mu * p + mu2 * p2) / (p + p2), -torch.log(p + p2)


def bernoulli_in_a_hierarchy(a):
    """What meets the data stands before what meets the noise of a lower latent: only the first few are tried."""
    hierarchy_named(a)
    assert a.likelihood.family == "bernoulli"
    data = {a.lineage.data, *Dependencies(a.tape).descendants([a.lineage.data])}
    with_data = [m.target in data and not m.features for m in a.lineage.meetings]
    assert not all(with_data)
    assert with_data == sorted(with_data, reverse=True)


@unauditable(bernoulli_in_a_hierarchy, model=Merging)
def a_handwritten_cross_entropy_below_merged_latents(m, x):
    mu, lv = m.enc(x)
    top_mu, top_lv = m.above(m.body(x)).chunk(2, 1)
    z, kl = reparameterise(top_mu, top_lv), kl_sum(top_mu, top_lv)
    for layer in m.down:
        p_mu, p_lv = layer(z).chunk(2, 1)
        q_mu, q_lv = merged(mu, lv, p_mu, p_lv)
        sample = q_mu.addcmul((q_lv / 2).exp(), torch.randn(B, d))  # only the KL sees it
        kl = kl + td.Normal(q_mu, (q_lv / 2).exp()).log_prob(sample).sum() + 0.5 * (sample - p_mu).square().sum()
        z = reparameterise(p_mu, p_lv)
    y = torch.sigmoid(m.decoder(z))
    return -(x * torch.log(y + 1e-8) + (1 - x) * torch.log(1 - y + 1e-8)).sum() + kl


class Ladder(VAE):
    """Both latents from the encoder, and the lower one's prior from the upper."""

    def __init__(self):
        super().__init__()
        self.top = nn.Linear(24, 2 * d)
        self.prior = nn.Linear(d, 2 * d)
        self.decoder[0] = nn.Linear(2 * d, 24)


def several_latents(a):
    assert a.lineage.posterior in {"hierarchy", "several latents"}
    assert a.lineage.notes
    assert a.objective().not_auditable != ""


@unauditable(several_latents, model=Ladder)
def ladder(m, x):
    h = m.body(x)
    q1, z1 = normal_sample(*m.head(h).chunk(2, 1))
    q2, z2 = normal_sample(*m.top(h).chunk(2, 1))
    mu, lv = m.prior(z2).chunk(2, 1)
    rate = td.kl_divergence(q2, td.Normal(0.0, 1.0)) + td.kl_divergence(q1, td.Normal(mu, lv.exp()))
    return sse(m.decoder(torch.cat([z1, z2], 1)), x) + rate.sum()


@unauditable(several_latents, model=Ladder)
def content_and_style(m, x):
    h = m.body(x)
    a, b = m.head(h).chunk(2, 1), m.top(h).chunk(2, 1)
    z = torch.cat([reparameterise(*a), reparameterise(*b)], 1)
    return sse(m.decoder(z), x) + kl_sum(*a) + 4 * kl_sum(*b)


class Conditional(VAE):
    """The prior of z is made of a part of the example, by a network of its own (Sohn et al. 2015)."""

    def __init__(self):
        super().__init__()
        self.prior = nn.Linear(4, 2 * d)
        nn.init.normal_(self.prior.weight)


@unauditable(named("conditional prior"), model=Conditional)
def divergence_to_a_conditional_prior_that_is_no_kl(m, x):
    mu, lv = m.enc(x)
    there, spread = m.prior(x[:, :4]).chunk(2, 1)
    rate = (mu - there) ** 2 + ((lv / 2).exp() - (spread / 2).exp()) ** 2  # Wasserstein
    return sse(m.decoder(reparameterise(mu, lv)), x) + rate.sum()


@unauditable(posterior("not Gaussian"))
def gumbel_softmax(m, x):
    logits = m.head(m.body(x))[:, :d]
    g = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-6, 1 - 1e-6)))
    z = F.softmax((logits + g) / 0.5, -1)
    p = logits.softmax(-1)
    return sse(m.decoder(z), x) + (p * (p.clamp_min(1e-9) * d).log()).sum()


@unauditable(posterior("not Gaussian, drawn by `gumbel_softmax`"))
def gumbel_softmax_of_torch(m, x):
    logits = m.head(m.body(x))[:, :d]
    z = F.gumbel_softmax(logits, 0.5)
    p = logits.softmax(-1)
    return sse(m.decoder(z), x) + (p * (p.clamp_min(1e-9) * d).log()).sum()


@unauditable(posterior("not Gaussian, drawn by `bernoulli`"))
def straight_through_bernoulli(m, x):
    p = torch.sigmoid(m.head(m.body(x))[:, :d])
    z = torch.bernoulli(p) + p - p.detach()
    return sse(m.decoder(z), x) + (p * (2 * p).log() + (1 - p) * (2 - 2 * p).log()).sum()


# ---------------------------------------------------------------- bounds and priors
class LearnedPrior(VAE):
    def __init__(self):
        super().__init__()
        self.prior = nn.Sequential(nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, 1))


@unauditable(noted("latent", "learned prior"), model=LearnedPrior)
def energy_based_prior(m, x):
    q, z = normal_sample(*m.enc(x))
    return sse(m.decoder(z), x) + q.log_prob(z).sum() + (m.prior(z) + 0.5 * z.square()).sum()


def kernel(a, b):
    return torch.exp(-(torch.cdist(a, b) ** 2) / (2 * d)).mean()


@unauditable(named("compares examples with each other"))
def mmd(m, x):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    p = torch.randn_like(z)
    return sse(m.decoder(z), x) / B + 10 * (kernel(z, z) + kernel(p, p) - 2 * kernel(z, p))


def by_differences(a, b):
    return torch.exp(-(a[:, None] - b[None]).square().sum(-1) / (2 * d)).mean()


@unauditable(named("compares examples with each other"))
def mmd_by_differences(m, x):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    p = torch.randn_like(z)
    return sse(m.decoder(z), x) / B + 10 * (by_differences(z, z) + by_differences(p, p) - 2 * by_differences(z, p))


@unauditable(named("compares examples with each other"))
def covariance_of_the_batch(m, x):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    covariance = torch.cov(mu.T)
    return sse(m.decoder(z), x) + 10 * (covariance - torch.eye(d)).square().sum() + 0.1 * (lv.exp() - 1 - lv).sum()


@unauditable(named("log-sum-exp"))
def total_correlation(m, x):
    mu, lv = m.enc(x)
    _, z = normal_sample(mu, lv)
    pairs = td.Normal(mu, (lv / 2).exp()).log_prob(z[:, None])
    log_qz = torch.logsumexp(pairs.sum(-1), 1)
    log_product = torch.logsumexp(pairs, 1).sum(-1)
    return sse(m.decoder(z), x) + kl_sum(mu, lv) + 5 * (log_qz - log_product).sum()


class Critic(VAE):
    def __init__(self):
        super().__init__()
        self.critic = nn.Sequential(nn.Linear(d, 8), nn.ReLU(), nn.Linear(8, 1))


@unauditable(noted("latent", "critic"), model=Critic)
def adversarial_regulariser(m, x):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    return sse(m.decoder(z), x) + F.softplus(-m.critic(z)).sum() + kl_sum(mu, lv)


# ---------------------------------------------------------------- the latent is not the only way
class Skip(VAE):
    def __init__(self):
        super().__init__()
        self.side, self.last = nn.Linear(D, 8), nn.Linear(d + 8, D)


@unauditable(noted("decoder", "data", "latent"), model=Skip)
def skip_connection(m, x):
    mu, lv = m.enc(x)
    y = m.last(torch.cat([reparameterise(mu, lv), m.side(x)], 1))
    return sse(y, x) + kl_sum(mu, lv)


@unauditable(noted("decoder", "data", "latent"), model=Skip)
def skip_from_the_encoder(m, x):
    h = m.body(x)
    mu, lv = m.head(h).chunk(2, 1)
    y = m.last(torch.cat([reparameterise(mu, lv), h[:, :8]], 1))
    return sse(y, x) + kl_sum(mu, lv)


@unauditable(noted("decoder", "data", "latent"))
def skip_added_to_the_output(m, x):
    y, mu, lv = m(x)
    return sse(y + 0.5 * x, x) + kl_sum(mu, lv)


@unauditable(noted("decoder", "data", "latent"))
def mu_reaches_the_decoder_too(m, x):
    mu, lv = m.enc(x)
    y = m.decoder(reparameterise(mu, lv)) + m.decoder(mu)
    return sse(y, x) + kl_sum(mu, lv)


class Autoregressive(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.encoder = nn.Embedding(7, 8), nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, 2 * d)
        self.decoder, self.out = nn.GRU(8 + d, 8, batch_first=True), nn.Linear(8, 7)


@unauditable(noted("decoder", "data", "latent"), model=Autoregressive, data=tokens)
def teacher_forcing(m, x):
    shown = m.embed(x)
    mu, lv = m.head(m.encoder(shown)[1][-1]).chunk(2, 1)
    z = reparameterise(mu, lv).unsqueeze(1).expand(-1, 4, -1)
    logits = m.out(m.decoder(torch.cat([shown[:, :-1], z], -1))[0])
    nll = F.cross_entropy(logits.flatten(0, 1), x[:, 1:].flatten(), reduction="sum")
    return nll + kl_sum(mu, lv)


# ---------------------------------------------------------------- likelihoods
class Perceptual(VAE):
    def __init__(self):
        super().__init__()
        self.features = nn.Linear(D, 30).requires_grad_(requires_grad=False)


@unauditable(likelihood_not_recognised, model=Perceptual)
def perceptual_distance(m, x):
    y, mu, lv = m(x)
    return sse(torch.tanh(m.features(y)), torch.tanh(m.features(x))) + kl_sum(mu, lv)


@unauditable(likelihood_of_no_name, model=Perceptual)
def squared_error_and_perceptual_distance(m, x):
    y, mu, lv = m(x)
    return sse(y, x) + sse(torch.tanh(m.features(y)), torch.tanh(m.features(x))) + kl_sum(mu, lv)


def target_not_in_data_space(a):
    assert not a.measure(TargetMatch).comparable


@unauditable(target_not_in_data_space)
def spectral_loss(m, x):
    y, mu, lv = m(x)
    return (torch.fft.rfft(y).abs() - torch.fft.rfft(x).abs()).square().sum() + kl_sum(mu, lv)


@unauditable(likelihood_of_no_name)
def cosine_distance(m, x):
    y, mu, lv = m(x)
    return (1 - F.cosine_similarity(y, x)).sum() + kl_sum(mu, lv)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_cannot_be_audited_is_named(case):
    step, data, _ = case.build()
    found = audit(step, *data)
    case.expected(found)
    assert found.regulariser.form != "wrong" or found.objective().not_auditable


# ---------------------------------------------------------------- what stands beside a KL and hides nothing
BESIDE = []
beside = collector(BESIDE)


class Labelled(VAE):
    def __init__(self):
        super().__init__()
        self.classes = nn.Linear(d, 4)


LABELS = {"model": Labelled, "data": lambda: (pixels(), torch.arange(B) % 4)}


@beside(1.0, **LABELS)
def labels_predicted_from_the_sample(m, x, label):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    return sse(m.decoder(z), x) + kl_sum(mu, lv) + 20 * F.cross_entropy(m.classes(z), label)


@beside(1.0, **LABELS)
def labels_predicted_from_the_mean(m, x, label):
    mu, lv = m.enc(x)
    return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv) + 20 * F.cross_entropy(m.classes(mu), label)


@beside(3.0, model=Labelled, data=lambda: (pixels(), torch.rand(B, 4)))
def properties_predicted_from_the_mean(m, x, wanted):
    mu, lv = m.enc(x)
    property_loss = (m.classes(torch.tanh(mu)) - wanted).square().sum()
    return sse(m.decoder(reparameterise(mu, lv)), x) + 3 * kl_sum(mu, lv) + property_loss


@beside(1.0)
def info_vae(m, x):
    mu, lv = m.enc(x)
    z = reparameterise(mu, lv)
    p = torch.randn_like(z)
    return sse(m.decoder(z), x) + kl_sum(mu, lv) + 10 * (by_differences(z, z) - 2 * by_differences(z, p))


@beside(1.0)
def correlations_of_the_mean(m, x):
    mu, lv = m.enc(x)
    c = torch.cov(mu.T)
    return sse(m.decoder(reparameterise(mu, lv)), x) + kl_sum(mu, lv) + 0.1 * (c - c.diag().diag()).square().sum()


@pytest.mark.parametrize("case", BESIDE, ids=lambda c: c.name)
def test_a_kl_is_weighed_beside_other_terms_on_the_code(case):
    step, data, _ = case.build()
    found = audit(step, *data)
    assert found.objective().not_auditable == ""
    assert found.lineage.notes == []
    assert found.regulariser.form == "exact"
    rough = ALIKE - 1 if found.regulariser.coupled else 1e-3
    assert found.regulariser.weight == pytest.approx(case.expected, rel=rough)


def test_a_critic_is_no_prediction_of_labels():
    """Its targets are the same for all."""

    def step(m, x, ones):
        mu, lv = m.enc(x)
        z = reparameterise(mu, lv)
        fooled = F.binary_cross_entropy_with_logits(m.classes(z), ones)
        return sse(m.decoder(z), x) + kl_sum(mu, lv) + fooled

    torch.manual_seed(0)
    model, data = Labelled(), (pixels(), torch.ones(B, 4))
    assert noted("latent", "critic")(audit(lambda *given: step(model, *given), *data)) is None


# ---------------------------------------------------------------- no VAE at all
@not_a_vae("encoder")
def autoencoder(m, x):
    mu, _ = m.enc(x)
    return sse(m.decoder(mu), x)


@not_a_vae("encoder")
def autoencoder_with_small_codes(m, x):
    mu, _ = m.enc(x)
    return sse(m.decoder(mu), x) + 0.1 * mu.square().sum()


@not_a_vae("encoder")
def denoising_autoencoder(m, x):
    mu, _ = m.enc(x + 0.1 * torch.randn_like(x))
    return sse(m.decoder(mu), x)


@not_a_vae("encoder")
def regression_with_dropout(m, x):
    return F.mse_loss(m.head(F.dropout(m.body(x), 0.5)), x[:, : 2 * d])


@not_a_vae("encoder")
def generator_against_a_critic(m, x):
    fake = m.decoder(torch.randn(B, d))
    return F.softplus(m.head(m.body(fake))).mean() + F.softplus(-m.head(m.body(x))).mean()


@not_a_vae("encoder")
def diffusion_denoiser(m, x):
    eps = torch.randn_like(x)
    noisy = 0.8 * x + 0.6 * eps
    return F.mse_loss(m.decoder(m.enc(noisy)[0]), eps)


@not_a_vae("encoder")
def reconstruction_as_a_number(m, x):
    y, mu, lv = m(x)
    return sse(y, x).item() + kl_sum(mu, lv)


@pytest.mark.parametrize("case", NO_VAE, ids=lambda c: c.name)
def test_what_is_no_vae_is_refused(case):
    step, data, _ = case.build()
    tape, _ = record(step, *data)

    with pytest.raises(NoVAE, match=case.expected):
        find(tape)
    with pytest.raises(NoVAE, match=case.expected):
        find_deterministic(tape)
