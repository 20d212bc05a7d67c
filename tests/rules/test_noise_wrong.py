"""POS03 on literal measurements."""

from dataclasses import replace

import pytest
from literal import NOISE, OBJECTIVE, REGULARISER, USAGE, Z_AT, found

from whyvae.rules.posterior.noise_wrong import NoiseWrong
from whyvae.verdict import Healthy


def check(noise=NOISE, usage=USAGE, objective=OBJECTIVE):
    return NoiseWrong.check(noise, usage, objective)


def wrong(coefficients, mistake=""):
    return replace(
        OBJECTIVE, regulariser=replace(REGULARISER, form="wrong", coefficients=coefficients, mistake=mistake)
    )


@pytest.mark.parametrize(("distance", "ill"), [(0.042, False), (0.043, True)])
def test_limit_of_the_distance_from_a_normal(distance, ill):
    verdict = check(replace(NOISE, kolmogorov=distance, mean=0.2, sd=0.9))
    assert (not isinstance(verdict, Healthy)) is ill
    if ill:
        found(verdict, "not N(0, 1) (mean 0.2, sd 0.9)", at=Z_AT)


def test_uniform_noise():
    found(check(replace(NOISE, uniform=True, kolmogorov=0.5)), "is uniform", at=Z_AT)


def test_noise_shared_over_the_batch():
    verdict = check(replace(NOISE, shared="8 numbers [8] for 512 latents [64, 8]"))
    finding = found(verdict, "used for many latents or examples", at=Z_AT)
    assert "8 numbers [8] for 512 latents" in str(finding.evidence[0])


@pytest.mark.parametrize(("share", "ill"), [(0.0, False), (0.001, True)])
def test_a_negative_scale(share, ill):
    verdict = check(usage=replace(USAGE, negative_sigma=share))
    assert (not isinstance(verdict, Healthy)) is ill
    if ill:
        found(verdict, "something that can be negative, as a log-variance is", at=Z_AT)


def test_below_the_diagonal_of_a_factor_any_sign_is_right():
    full = replace(OBJECTIVE, posterior="full-covariance Gaussian")
    assert isinstance(check(usage=replace(USAGE, negative_sigma=0.4), objective=full), Healthy)


def test_variance_in_place_of_standard_deviation():
    verdict = check(objective=wrong((1.0, 0.4, 0.4, 0.0), "log sigma is passed as log sigma^2"))
    found(verdict, "multiplied by the variance, not by the standard deviation", at=Z_AT)


def test_noise_of_another_scale_than_the_kls():
    found(check(objective=wrong((1.0, 4.0, 1.0, 0.0))), "0.5 times the standard deviation in the KL", at=Z_AT)


def test_nothing_drawn_is_another_rules():
    assert check(replace(NOISE, count=0)).reason.startswith("does not apply")


@pytest.mark.parametrize("posterior", ["not Gaussian", "not Gaussian, drawn by `bernoulli`"])
def test_uniform_numbers_from_which_a_sample_is_made_are_not_its_noise(posterior):
    """A Gumbel-softmax is made from them, a normal sample by its inverse distribution function."""
    verdict = check(replace(NOISE, uniform=True, kolmogorov=0.5), objective=replace(OBJECTIVE, posterior=posterior))
    assert verdict.reason.startswith("does not apply")


def test_the_same_noise_in_every_step():
    verdict = check(replace(NOISE, repeated=20))
    found(verdict, "the same noise", at=Z_AT)
