"""OUT02 on literal measurements."""

from dataclasses import replace

import pytest
from literal import DATA, LIKELIHOOD_AT, OBJECTIVE, found

from whyvae.rules.output.likelihood_domain import LikelihoodDomain
from whyvae.verdict import Healthy

BCE = replace(OBJECTIVE, family="bernoulli logits")


def check(low, high, objective=BCE):
    return LikelihoodDomain.check(replace(DATA, target_low=low, target_high=high), objective)


@pytest.mark.parametrize(
    ("low", "high", "ill"), [(0, 1, False), (0, 1 + 9e-7, False), (0, 1 + 2e-6, True), (-2e-6, 1, True)]
)
def test_limits(low, high, ill):
    assert (not isinstance(check(low, high), Healthy)) is ill


def test_says_how_far_and_how_to_scale():
    finding = found(check(-1.0, 1.0), "targets from -1 to 1, outside [0, 1]", at=LIKELIHOOD_AT)
    assert [e.what for e in finding.evidence] == ["smallest target"]
    assert finding.remedies[0].how == "x = (x - -1) / 2"


@pytest.mark.parametrize(
    "objective",
    [
        replace(OBJECTIVE, family="bernoulli"),
        replace(OBJECTIVE, family="swapped bernoulli"),
        replace(OBJECTIVE, family="unknown", loss_function="binary_cross_entropy_with_logits"),
    ],
)
def test_every_spelling_of_cross_entropy(objective):
    found(check(0.0, 255.0, objective), "from 0 to 255", at=LIKELIHOOD_AT)


def test_other_likelihoods_take_any_number():
    assert check(-3.0, 255.0, OBJECTIVE).reason.startswith("does not apply")


@pytest.mark.parametrize("family", ["poisson", "poisson rates"])
def test_counts_are_never_negative(family):
    objective = replace(OBJECTIVE, family=family)
    assert isinstance(check(0.0, 900.0, objective), Healthy)
    found(check(-1.5, 4.0, objective), "targets from -1.5 to 4", "never negative", at=LIKELIHOOD_AT)
