"""Variances of the likelihood, one for each number of the output."""

import torch

from whyvae.probe import Bench
from whyvae.probes.objective import Objective
from whyvae.probes.precision import precision_shares
from whyvae.probes.wider import WiderBlocks
from whyvae.testing import Patient, kl, squared_error

VARIANCES = torch.logspace(-2.5, 0.5, 12)


def _own_variances(output, x, mu, logvar):
    error = (output - x).reshape(x.shape[0], -1) ** 2
    return ((error / (2 * VARIANCES)).sum() + kl(mu, logvar)) / x.shape[0]


def test_each_number_counts_by_its_precision():
    shares = precision_shares(Patient(loss=_own_variances, steps=60).train())
    precision = 1 / VARIANCES.double()
    torch.testing.assert_close(shares, precision / precision.mean(), rtol=1e-5, atol=1e-6)


SCALES = (VARIANCES / 2).sqrt()


def _own_scales(output, x, mu, logvar):
    error = (output - x).reshape(x.shape[0], -1).abs()
    return ((error / SCALES).sum() + kl(mu, logvar)) / x.shape[0]


def test_a_laplace_counts_by_its_variance():
    """Of variance 2 b^2 each; whatever s is, the weighted squares over 2s are those over twice these variances."""
    subject = Patient(loss=_own_scales, steps=60).train()
    objective = Bench(subject).get(Objective)
    assert objective.family == "laplace per element"
    shares = precision_shares(subject)
    torch.testing.assert_close(shares / objective.noise_variance, 1 / VARIANCES.double(), rtol=1e-5, atol=1e-6)


def test_one_variance_for_all_is_no_share():
    def one(output, x, mu, logvar):
        return (squared_error(output, x) / 0.2 + kl(mu, logvar)) / x.shape[0]

    assert precision_shares(Patient(loss=one, steps=60).train()) is None


def test_trained_on_without_anything_wider_the_objective_does_not_change():
    """What the same steps gain with nothing enlarged is what the user's own training would: little, where it has ended."""
    subject = Patient(loss=_own_variances, steps=3000).train()
    gains = Bench(subject).get(WiderBlocks).own
    assert abs(gains.continued) < 0.5
