"""The gain of further latents against the closed form of the linear VAE: its optimum with more units, less its own."""

import pytest
import torch
from linear import Linear

from whyvae.probes.more_latents import MoreLatents

S = 0.2
EIGENVALUES = (8.0, 6.0, 4.0, 3.0, 0.05, 0.05, 0.05, 0.05)


def gain(latents, more):
    """Nats per example in the objective, between the two global optima; below s a further unit gains nothing."""
    few, many = (Linear.optimum(S, d, EIGENVALUES) for d in (latents, latents + more))
    return (few.sse - many.sse) / (2 * S) + float(few.kl.sum() - many.kl.sum())


def test_closed_form_is_the_score_test_s():
    """0.5 (l / s - 1 - log(l / s)) for each direction that is added (Tipping & Bishop 1999)."""
    left = torch.tensor(EIGENVALUES[2:4]) / S
    assert gain(2, 2) == pytest.approx(float((0.5 * (left - 1 - left.log())).sum()))
    assert gain(4, 4) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("latents", [1, 2])
def test_directions_that_are_left_out_are_gained_by_units_that_read_them(latents):
    measured = Linear.optimum(S, latents, EIGENVALUES).bench().get(MoreLatents)
    wanted = gain(latents, measured.added)
    assert 0.8 * wanted < measured.own + 3 * measured.error  # an encoder and a decoder are learned within the trial
    assert measured.own - 3 * measured.error < wanted
    assert measured.calibrated > 2


def test_latents_that_suffice_gain_nothing():
    measured = Linear.optimum(S, 4, EIGENVALUES).bench().get(MoreLatents)
    assert abs(measured.own) < 0.1
    assert abs(measured.calibrated) < 0.1
