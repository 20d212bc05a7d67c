"""OBJ01 on literal measurements."""

from dataclasses import replace

import pytest
from literal import BALANCE, KL_AT, OBJECTIVE, found

from whyvae.audit.reductions import Reductions
from whyvae.rules.objective.kl_overweight import KLOverweight
from whyvae.verdict import Healthy


def check(objective=OBJECTIVE, **changes):
    return KLOverweight.check(objective, replace(BALANCE, **changes))


LEARNED = replace(OBJECTIVE, learned_scale=True, reductions=Reductions(64.0, 64.0))
WEIGHTED = replace(LEARNED, regulariser=replace(OBJECTIVE.regulariser, weight=30 / 64))
HEAVY = {"s": 5.31, "nats_lost": 31.0}
STARVED = {"s": 1.0, "kept": 0.49, "useful_now": 3, "useful_fitting": 6}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"s": 5.3},  # the largest eigenvalue itself
        STARVED | {"kept": 0.5},
        STARVED | {"useful_now": 6},  # a fitting weight would keep no more directions
        {"s": 1.0, "realness": 0.5, "kept": 0.9},
        STARVED | {"s": 0.04},  # the weight fits: the networks are too weak
    ],
)
def test_healthy_up_to_the_limits(changes):
    assert isinstance(check(**changes), Healthy)


def test_above_the_largest_eigenvalue_collapse_is_the_optimum():
    finding = found(check(**HEAVY), "ignoring the input is cheaper", at=KL_AT)
    assert (finding.nats, finding.confidence) == (31.0, 0.99)
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(5.31, 5.3), (5.31, 0.04)]
    assert "0.0075 times its present weight" in finding.remedies[0].how


def test_reconstructions_that_lose_more_than_they_keep():
    finding = found(check(**STARVED), "lose more of the data than they keep", at=KL_AT)
    assert [e.measured for e in finding.evidence] == [0.49, 1.0]
    assert "leaves 3 latents something to say, a fitting one 6" in str(finding.evidence[0])
    assert finding.nats is None


def test_reconstructions_that_keep_the_variance_and_lose_what_is_real():
    finding = found(check(s=1.0, realness=0.49, kept=0.9), "lose more of the data than they keep", at=KL_AT)
    assert finding.evidence[0].measured == 0.49
    assert "a linear model with as many latents" in str(finding.evidence[0])


def test_a_rough_scale_convicts_beyond_its_factor():
    """That of a likelihood without a name is read within a factor of 5."""
    assert isinstance(check(**STARVED | {"rough": True, "fitting": 0.21}), Healthy)
    found(check(**STARVED | {"rough": True, "fitting": 0.19}), "lose more of the data than they keep", at=KL_AT)


def test_a_learned_scale_fits_itself():
    """Not at a weight that is written beside it: the scale then comes to the residual, and s to the weight times that."""
    assert isinstance(check(LEARNED, **HEAVY), Healthy)
    assert isinstance(check(WEIGHTED, **HEAVY | {"fitting": 5.31 / 4}), Healthy)
    found(check(WEIGHTED, **HEAVY), "ignoring the input is cheaper", at=KL_AT)


def test_of_cross_entropies_it_speaks_of_beta():
    finding = check(replace(OBJECTIVE, family="bernoulli"), **HEAVY)
    assert "effective beta" in str(finding.evidence[1])
