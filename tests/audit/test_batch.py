"""Does s depend on the batch size? From steps of two sizes, from rewriting one step, or not at all."""

import math

import pytest
import torch
from torch import nn

from whyvae.audit.batch import at_batch_size
from whyvae.audit.regulariser import audit_regulariser
from whyvae.examine import examine
from whyvae.probes.implied import power_between_sizes
from whyvae.probes.objective import Objective
from whyvae.testing import factors, kl
from whyvae.watch.subject import Subject
from whyvae.watch.watcher import Watcher

SIGMA2 = 0.02


def halved(error, divergence, n):
    return error / (2 * SIGMA2 * len(n)) + divergence / len(n)


def summed_error(error, divergence, n):
    return error / (2 * SIGMA2) + divergence / len(n)


def summed_kl(error, divergence, n):
    return error / (2 * SIGMA2 * len(n)) + divergence


def plain(error, divergence, n):
    return error / (2 * SIGMA2) + divergence


def by_a_variance(error, divergence, n):
    """2 * 0.1 ** 2 is 1 / 50: nobody divides by that to multiply by a batch of 50."""
    return error / (2 * 0.1**2) / n.shape[0] + divergence / n.shape[0]


def trained(loss, sizes):
    torch.manual_seed(0)
    data = factors()
    encoder, decoder = nn.Linear(12, 6), nn.Linear(3, 12)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
    with Watcher() as watcher:
        for size in sizes:
            x = data[torch.randperm(len(data))[:size]]
            mu, logvar = encoder(x).chunk(2, 1)
            output = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            optimizer.zero_grad()
            loss((output - x).square().sum(), kl(mu, logvar), x).backward()
            optimizer.step()
    return Subject.of(watcher)


@pytest.mark.parametrize(("loss", "power"), [(halved, 0), (plain, 0), (summed_error, -1), (summed_kl, 1)])
def test_steps_of_two_sizes_give_the_power_of_the_batch_size(loss, power):
    subject = trained(loss, [64, 64, 40, 64])
    assert power_between_sizes(subject) == pytest.approx(power, abs=1e-6)
    objective = Objective.measure(subject)
    assert objective.noise_variance_half_batch / objective.noise_variance == pytest.approx(0.5**power, rel=1e-6)


@pytest.mark.parametrize(("loss", "power"), [(plain, 0), (summed_error, -1)])
def test_one_size_is_rewritten(loss, power):
    objective = Objective.measure(trained(loss, [64] * 4))
    assert objective.noise_variance_half_batch / objective.noise_variance == pytest.approx(0.5**power, rel=1e-6)


def between(x):
    """The KL to a prior whose mean is made as long as the batch."""
    prior = x.new_zeros(x.shape[0], 3)
    return lambda mu, logvar: kl(mu - prior.expand(len(x), 3), logvar)


def test_what_is_made_as_long_as_the_batch_is_made_shorter():
    torch.manual_seed(0)
    data = factors()
    encoder, decoder = nn.Linear(12, 6), nn.Linear(3, 12)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
    with Watcher() as watcher:
        for _ in range(3):
            x = data[torch.randperm(len(data))[:64]]
            mu, logvar = encoder(x).chunk(2, 1)
            output = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            optimizer.zero_grad()
            ((output - x).square().sum() + between(x)(mu, logvar)).backward()
            optimizer.step()
    ((lineage, replay),) = at_batch_size(Subject.of(watcher), 0.5)
    assert audit_regulariser(lineage, replay).weight == pytest.approx(1.0)


def test_a_variance_is_no_share_of_a_batch():
    objective = Objective.measure(trained(by_a_variance, [50] * 4))
    assert objective.noise_variance_half_batch / objective.noise_variance == pytest.approx(1, rel=1e-6)


def half_of_the_mean(error, divergence, n):
    twice = divergence + divergence
    return error / len(n) + twice / (2 * len(n))


def half_of_the_mean_beside_a_sum(error, divergence, n):
    twice = divergence + divergence
    return error + twice / (2 * n.shape[0])


def mean_of_three(error, divergence, n):
    return error / (n.size(0) * 3) + divergence / (3 * len(n))


@pytest.mark.parametrize(
    ("loss", "power"), [(half_of_the_mean, 0), (half_of_the_mean_beside_a_sum, -1), (mean_of_three, 0)]
)
def test_a_multiple_of_the_number_of_examples_is_read(loss, power):
    objective = Objective.measure(trained(loss, [64] * 4))
    assert objective.noise_variance_half_batch / objective.noise_variance == pytest.approx(0.5**power, rel=1e-6)


def hidden_in_a_whole_number(error, divergence, n):
    parts = 5
    return error / len(n) + divergence / (parts * len(n))


@pytest.mark.parametrize("loss", [halved, summed_kl, hidden_in_a_whole_number])
def test_a_size_hidden_in_a_factor_is_not_guessed(loss):
    assert math.isnan(Objective.measure(trained(loss, [64] * 4)).noise_variance_half_batch)


def weighed_as_many_as_the_batch(error, divergence, n):
    return (error + 64.0 * divergence) / len(n)


def named_weight(error, divergence, n):
    beta = 64.0
    return (error + beta * divergence) / len(n)


def weighed_as_one_part_of_the_batch(error, divergence, n):
    return (error + 0.015625 * divergence) / len(n)


def times_the_batch(error, divergence, n):
    return error / len(n) * len(n) / len(n) + divergence / len(n)


def doubtful(error, divergence, n):
    beta = 64
    return (error + beta * divergence) / len(n)


def doubtful_part(error, divergence, n):
    beta = 1 / 64
    return (error + beta * divergence) / len(n)


@pytest.mark.parametrize(
    "loss", [weighed_as_many_as_the_batch, named_weight, weighed_as_one_part_of_the_batch, times_the_batch]
)
def test_a_weight_as_large_as_the_batch_is_no_size(loss):
    objective = Objective.measure(trained(loss, [64] * 4))
    assert objective.noise_variance_half_batch / objective.noise_variance == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("loss", [doubtful, doubtful_part])
def test_a_number_of_no_telling_name_is_not_guessed(loss):
    assert math.isnan(Objective.measure(trained(loss, [64] * 4)).noise_variance_half_batch)


WIDE = nn.Parameter(torch.tensor(-2.0))


def beside_a_scale(error, divergence, n):
    """12 log sigma, of 12 features, in a batch of 12: whichever it is, the pulls on output and heads are the same."""
    return 12 * WIDE + error.reshape(1).mean() / (2 * SIGMA2) + divergence / len(n)


def by_examples(error, divergence, n):
    return error / (2 * SIGMA2) + divergence / n.shape[0]


def by_something(error, divergence, n):
    some = len(n)
    return error / (2 * SIGMA2) + divergence / some


def by_features(error, divergence, n):
    return error / n.shape[1] + divergence


@pytest.mark.parametrize(
    ("loss", "power"), [(beside_a_scale, -1), (by_examples, -1), (by_something, math.nan), (by_features, math.nan)]
)
def test_a_number_that_may_be_the_batch_or_a_width(loss, power):
    objective = Objective.measure(trained(loss, [12] * 4))
    ratio = objective.noise_variance_half_batch / objective.noise_variance
    assert ratio == pytest.approx(0.5**power, rel=1e-6, nan_ok=True)


def test_a_weight_that_moves_between_steps_is_no_batch_size():
    weights = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    subject = trained(lambda error, divergence, n: halved(error, next(weights) * divergence, n), [64, 64, 40, 64, 64])
    assert math.isnan(power_between_sizes(subject))


def test_a_weight_that_moves_between_epochs_is_no_batch_size():
    """The last, smaller batch of an epoch at half the weight of the next one."""
    weights = iter([1.0, 1.0, 2.0, 2.0, 2.0])
    subject = trained(lambda error, divergence, n: halved(error, next(weights) * divergence, n), [64, 40, 64, 64, 64])
    assert math.isnan(power_between_sizes(subject))


def recurrent_loss(reduced):
    """Sequences [batch, 4, 3] through a GRU whose first state, [1, batch, 8], is made in the step."""
    torch.manual_seed(0)
    data = factors().reshape(-1, 4, 3)
    encoder, heads = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 6)
    spread, decoder, out = nn.Linear(3, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)
    parts = nn.ModuleList([encoder, heads, spread, decoder, out])
    optimizer = torch.optim.Adam(parts.parameters())
    with Watcher() as watcher:
        for _ in range(4):
            x = data[torch.randperm(len(data))[:64]]
            mu, logvar = heads(encoder(x)[1][-1]).chunk(2, 1)
            z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
            output = out(decoder(spread(z)[:, None].expand(-1, 4, -1), torch.zeros(1, len(x), 8))[0])
            optimizer.zero_grad()
            reduced((output - x).square().sum() / 0.04, kl(mu, logvar), x).backward()
            optimizer.step()
    return Objective.measure(Subject.of(watcher))


@pytest.mark.parametrize(("reduced", "power"), [
    (lambda error, divergence, x: (error + divergence) / len(x), 0), (lambda error, divergence, x: error / len(x) + divergence, 1),
])  # fmt: skip
def test_states_of_recurrent_layers_are_those_of_fewer_examples(reduced, power):
    objective = recurrent_loss(reduced)
    assert objective.noise_variance_half_batch / objective.noise_variance == pytest.approx(0.5**power, rel=1e-6)


def test_sizes_that_are_nearly_one_are_not_compared():
    assert math.isnan(power_between_sizes(trained(summed_error, [64, 64, 60, 64])))


@pytest.mark.parametrize("form", [
    lambda r: r.abs() ** 1.5, lambda r: torch.log(torch.cosh(r)), lambda r: (1 + r.square()).sqrt() + 0.2 * r.square(),
])  # fmt: skip
@pytest.mark.parametrize(("reduced", "power"), [
    (lambda error, divergence, x: (error + divergence) / len(x), 0),
    (lambda error, divergence, x: error / len(x) + divergence, 1),
    (lambda error, divergence, x: error + divergence / len(x), -1),
])  # fmt: skip
def test_where_the_scale_is_an_estimate_the_pull_of_half_a_batch_is_exact(form, reduced, power):
    torch.manual_seed(0)
    data = factors()
    encoder, decoder = nn.Linear(12, 6), nn.Linear(3, 12)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
    with Watcher() as watcher:
        for _ in range(4):
            x = data[torch.randperm(len(data))[:64]]
            mu, logvar = encoder(x).chunk(2, 1)
            output = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp())
            optimizer.zero_grad()
            reduced(form((output - x) / SIGMA2**0.5).sum(), kl(mu, logvar), x).backward()
            optimizer.step()
    objective = Objective.measure(Subject.of(watcher))
    assert objective.family == "error"
    assert objective.noise_variance_half_batch / objective.noise_variance == pytest.approx(0.5**power, rel=1e-6)


@pytest.mark.parametrize(("reduced", "power"), [
    (lambda log_p, rate, n: -log_p.mean() + rate / n, 0), (lambda log_p, rate, n: -log_p.mean() + rate, 1),
    (lambda log_p, rate, n: -log_p.sum() + rate / n, -1),
])  # fmt: skip
def test_a_likelihood_of_no_name_is_told_by_its_pull(reduced, power):
    """A mixture of densities with a scale and a weight that are decoded too: its scale is not known, that it changes is."""
    torch.manual_seed(0)
    data = factors()
    encoder, decoder = nn.Linear(12, 6), nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 3 * 2 * 12))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()])
    with Watcher() as watcher:
        for _ in range(4):
            x = data[torch.randperm(len(data))[:64]]
            mu, logvar = encoder(x).chunk(2, 1)
            weight, loc, spread = decoder(mu + torch.randn_like(mu) * (0.5 * logvar).exp()).view(-1, 3, 2, 12).unbind(1)
            each = -0.5 * ((x[:, None] - loc) / spread.exp()) ** 2 - spread + weight.log_softmax(1)
            optimizer.zero_grad()
            reduced(each.logsumexp(1).sum(1), kl(mu, logvar), len(x)).backward()
            optimizer.step()
    subject = Subject.of(watcher)
    objective = Objective.measure(subject)
    assert objective.family == "unknown"
    assert objective.noise_variance_half_batch / objective.noise_variance == pytest.approx(0.5**power, rel=1e-6)
    assert [f.code for f in examine(subject, ("OBJ06",)).findings] == ["OBJ06"] * (power != 0)
