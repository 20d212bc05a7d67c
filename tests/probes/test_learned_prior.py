"""Whose parameters enter the loss beside the output: those of a prior, or those of the likelihood's scale."""

import pytest
import torch
from torch import nn

from whyvae.probes.objective import Objective
from whyvae.testing import Patient

FREE = nn.Parameter(torch.full((4,), 0.3))
SCALE = nn.Parameter(torch.full((), -1.0))


def prior_scale(output, x, mu, logvar):
    kl = 0.5 * ((mu**2 + logvar.exp()) * (-2 * FREE).exp() - 1 - logvar + 2 * FREE).sum(1)
    return ((output - x).square().sum(1) + kl).mean()


def prior_mean(output, x, mu, logvar):
    kl = 0.5 * ((mu - FREE.tanh()) ** 2 + logvar.exp() - 1 - logvar).sum(1)
    return ((output - x).square().sum(1) + kl).mean()


def likelihood_scale(output, x, mu, logvar):
    nll = (0.5 * ((output - x) * (-SCALE).exp()) ** 2 + SCALE).sum(1)
    return (nll + 0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1)).mean()


def likelihood_scale_and_a_prior_twice_as_wide(output, x, mu, logvar):
    nll = (0.5 * ((output - x) * (-SCALE).exp()) ** 2 + SCALE).sum(1)
    return (nll + 0.5 * ((mu**2 + logvar.exp()) / 4 - logvar).sum(1)).mean()


@pytest.mark.parametrize(("loss", "learned"), [
    (prior_scale, True), (prior_mean, True), (likelihood_scale, False), (likelihood_scale_and_a_prior_twice_as_wide, False),
])  # fmt: skip
def test_a_learned_scale_is_no_learned_prior(loss, learned):
    objective = Objective.measure(Patient(loss=loss, steps=20).train())
    assert objective.prior_is_learned is learned


def test_another_prior_is_seen_beside_a_learned_scale():
    regulariser = Objective.measure(
        Patient(loss=likelihood_scale_and_a_prior_twice_as_wide, steps=20).train()
    ).regulariser
    assert (regulariser.form, regulariser.prior_sd) == ("learned prior", pytest.approx(2.0, rel=1e-3))
