"""OUT01 on literal measurements."""

from dataclasses import replace

import pytest
from literal import LIKELIHOOD_AT, OBJECTIVE, OUTPUT_AT, RANGE, found

from whyvae.rules.output.output_range import OutputRange
from whyvae.verdict import Healthy


def check(objective=OBJECTIVE, **changes):
    return OutputRange.check(replace(RANGE, **changes), objective)


OUTSIDE = {"unreachable": 30.0, "outside": 0.42, "data_low": -2.1, "data_high": 3.4}


@pytest.mark.parametrize(("unreachable", "ill"), [(0.0, False), (0.5, False), (0.51, True)])
def test_limit_is_a_hundredth_of_the_variance(unreachable, ill):
    assert (not isinstance(check(unreachable=unreachable), Healthy)) is ill


def test_says_both_ranges_and_the_share():
    finding = found(
        check(**OUTSIDE), "`sigmoid`", "[0, 1]", "from -2.1 to 3.4", "42% of it cannot be reached", at=OUTPUT_AT
    )
    assert finding.evidence[0].measured == pytest.approx(0.6)
    assert "x = (x - -2.1) / 5.5" in finding.remedies[0].how


def test_without_a_line_of_its_own_it_points_at_the_loss():
    found(check(**OUTSIDE, at=None), at=LIKELIHOOD_AT)


def test_constant_data_cannot_be_missed():
    assert isinstance(check(unreachable=0.0, variance=0.0), Healthy)


@pytest.mark.parametrize("family", ["bernoulli", "bernoulli logits", "categorical"])
def test_likelihoods_with_a_range_of_their_own(family):
    assert check(replace(OBJECTIVE, family=family), **OUTSIDE).reason.startswith("does not apply")
