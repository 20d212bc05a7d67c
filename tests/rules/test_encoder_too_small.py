"""CAP01 on literal measurements."""

from dataclasses import replace
from math import nan

import pytest
from literal import AMORTISATION, found

from whyvae.rules.capacity.encoder_too_small import EncoderTooSmall
from whyvae.verdict import Healthy


def check(own, rate=4.0, left=nan):
    return EncoderTooSmall.check(replace(AMORTISATION, own=own, rate=rate, own_after_training=left, gap=5.5))


@pytest.mark.parametrize(
    ("own", "rate", "ill"), [(2.0, 1.0, False), (2.1, 1.0, True), (6.0, 12.0, False), (6.1, 12.0, True)]
)
def test_both_limits_must_be_passed(own, rate, ill):
    """2 nats, and half of the rate."""
    assert (not isinstance(check(own, rate), Healthy)) is ill


def test_says_what_the_best_posterior_gains():
    finding = found(check(8.0, 9.0, left=7.0), "8 nats better", "carries 9")
    assert [round(e.measured, 3) for e in finding.evidence] == [8.0, 0.889, 0.778]
    assert finding.nats == 5.5


@pytest.mark.parametrize(("left", "ill"), [(2.0, False), (2.1, True)])
def test_an_encoder_that_only_lags_is_not_too_small(left, ill):
    assert (not isinstance(check(8.0, left=left), Healthy)) is ill


def test_confidence_is_the_chance_that_the_limit_is_passed():
    """2 standard errors above 2 nats."""
    assert check(2.2, 1.0).confidence == pytest.approx(0.977, abs=1e-3)
    assert check(20.0, 1.0).confidence == 0.99
