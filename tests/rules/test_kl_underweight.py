"""OBJ03 on literal measurements."""

from dataclasses import replace

import pytest
from literal import BALANCE, KL_AT, OBJECTIVE, found

from whyvae.rules.objective.kl_underweight import KLUnderweight
from whyvae.verdict import Healthy

LIGHT = {"s": 0.039, "fitting": 1.0, "prior_excess": 5.1}


def check(objective=OBJECTIVE, **changes):
    return KLUnderweight.check(objective, replace(BALANCE, **changes))


@pytest.mark.parametrize("changes", [{}, LIGHT | {"s": 0.04}, LIGHT | {"prior_excess": 5.0}])
def test_healthy_up_to_the_limits(changes):
    assert isinstance(check(**changes), Healthy)


def test_a_light_weight_with_bad_samples():
    finding = found(check(**LIGHT), "weighs too little", "draws from it decode to garbage", at=KL_AT)
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(5.1, 5.0), (0.039, 0.04)]
    assert "multiply the KL by about 26" in finding.remedies[0].how


def test_a_learned_scale_fits_itself():
    assert isinstance(check(replace(OBJECTIVE, learned_scale=True), **LIGHT), Healthy)
