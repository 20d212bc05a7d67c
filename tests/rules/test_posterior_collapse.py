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
