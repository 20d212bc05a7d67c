"""POS04 on literal measurements."""

from dataclasses import replace
from math import inf, log

import pytest
from literal import HEADS, found

from whyvae.rules.posterior.head_constrained import NARROW, REACH_HIGH, REACH_LOW, WIDE, HeadConstrained
from whyvae.verdict import Healthy, Where

MU_AT, SIGMA_AT = Where("train.py", 30), Where("train.py", 31)


def check(**changes):
    at = {"mu_op": "tanh", "mu_at": MU_AT, "log_sigma_op": "relu", "log_sigma_at": SIGMA_AT}
    return HeadConstrained.check(replace(HEADS, **{**at, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mu_low": -2.5, "mu_high": 2.5},
        {"log_sigma_low": log(0.2) - 1e-9, "log_sigma_high": log(0.95) + 1e-9},
        {"log_sigma_low": -1.0, "log_sigma_high": -1.0},  # a fixed sigma is a choice
        {"log_sigma_low": -5.0, "log_sigma_high": 1e6},  # exp would overflow
    ],
)
def test_healthy_up_to_the_limits(changes):
    assert isinstance(check(**changes), Healthy)


def test_tanh_on_mu():
    finding = found(check(mu_low=-1.0, mu_high=1.0), "`tanh` on the mu head", "[-1, 1]", at=MU_AT)
    assert [e.limit for e in finding.evidence] == [REACH_LOW, REACH_HIGH]


@pytest.mark.parametrize(("changes", "limit"), [({"mu_low": -2.49}, REACH_LOW), ({"mu_high": 2.49}, REACH_HIGH)])
def test_one_wall_of_mu_is_enough(changes, limit):
    assert [e.limit for e in found(check(**changes), at=MU_AT).evidence] == [limit]


def test_relu_on_the_log_variance():
    finding = found(check(log_sigma_low=0.0), "`relu` on the log-variance head", "sigma to [1, 999]", at=SIGMA_AT)
    assert [e.limit for e in finding.evidence] == [NARROW]


def test_limit_of_the_smallest_sigma():
    assert [e.limit for e in found(check(log_sigma_low=log(0.2) + 1e-9), at=SIGMA_AT).evidence] == [NARROW]


def test_sigma_that_never_reaches_the_priors():
    finding = found(check(log_sigma_low=-inf, log_sigma_high=log(0.94)), "sigma to [0, 0.94]", at=SIGMA_AT)
    assert [e.limit for e in finding.evidence] == [WIDE]


def test_an_activation_that_was_not_seen():
    assert check(mu_low=-1.0, mu_op="", mu_at=None).summary.startswith("An activation on the mu head")
