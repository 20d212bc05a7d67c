"""POS01 on literal measurements."""

from dataclasses import replace

from literal import USAGE, found

from whyvae.rules.posterior.posterior_collapse import PosteriorCollapse
from whyvae.verdict import Healthy


def check(rate):
    return PosteriorCollapse.check(replace(USAGE, rate=rate, units=20))


def test_below_one_bit_the_code_is_empty():
    finding = found(check(0.69), "0.69 nats per example in 20 units")
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(0.69, 0.693)]


def test_one_bit_is_not_collapsed():
    assert isinstance(check(0.693), Healthy)


def test_far_from_the_standard_normal_is_not_information_where_another_prior_is():
    """All encodings at one place, 3 away from the origin: 4.5 nats to N(0, I), none about the example."""
    away = replace(USAGE, rate=4.5, gap=4.4, own_prior=True)
    assert found(PosteriorCollapse.check(away), "0.1 nats")
    assert isinstance(PosteriorCollapse.check(replace(away, own_prior=False)), Healthy)
