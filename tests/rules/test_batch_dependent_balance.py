"""OBJ06 on literal measurements."""

from dataclasses import replace
from math import nan

import pytest
from literal import KL_AT, OBJECTIVE, found

from whyvae.audit.regulariser import Regulariser
from whyvae.rules.objective.batch_dependent_balance import BatchDependentBalance
from whyvae.verdict import Healthy, Skipped


def check(factor, **changes):
    half = OBJECTIVE.noise_variance * factor
    return BatchDependentBalance.check(replace(OBJECTIVE, noise_variance_half_batch=half, **changes))


@pytest.mark.parametrize(("factor", "ill"), [(1.0, False), (2**0.099, False), (2**0.101, True), (2**-0.101, True)])
def test_limit(factor, ill):
    assert (not isinstance(check(factor), Healthy)) is ill


@pytest.mark.parametrize(("factor", "ill"), [(2**-0.49, False), (2**0.49, False), (2**0.51, True), (0.5, True)])
def test_a_variance_taken_from_the_residual_differs_from_half_to_half_by_chance(factor, ill):
    assert (not isinstance(check(factor, learned_scale=True), Healthy)) is ill


@pytest.mark.parametrize("family", ["error", "density"])
@pytest.mark.parametrize(("factor", "ill"), [(2**-0.27, False), (2**0.49, False), (0.5, True)])
def test_so_does_the_scale_of_a_likelihood_of_no_name(factor, ill, family):
    assert (not isinstance(check(factor, family=family), Healthy)) is ill


@pytest.mark.parametrize(("factor", "words"), [(0.5, "the KL half as heavy"), (2.0, "the KL twice as heavy")])
def test_says_which_way(factor, words):
    finding = found(check(factor), words, at=KL_AT, severity="warning")
    assert finding.evidence[0].measured == pytest.approx(1.0)


def test_skips():
    assert check(nan).reason.startswith("does not apply")
    assert check(2.0, not_auditable="a flow") == Skipped("a flow")
    assert check(2.0, regulariser=Regulariser("wrong", 1.0)) == Skipped("the weight of the KL is not known")
