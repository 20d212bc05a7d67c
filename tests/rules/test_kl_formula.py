"""OBJ05 on literal measurements."""

from dataclasses import replace

import pytest
from literal import KL_AT, OBJECTIVE, REGULARISER, RIGHT, found

from whyvae.probes.sampling import Sampling
from whyvae.rules.objective.kl_formula import KLFormula
from whyvae.verdict import Healthy, Skipped


def check(objective=OBJECTIVE, draws=None, **changes):
    return KLFormula.check(replace(objective, regulariser=replace(REGULARISER, **changes)), lambda: draws)


@pytest.mark.parametrize("form", ["exact", "free bits", "none"])
def test_these_are_the_kl_or_another_rules(form):
    assert isinstance(check(form=form), Healthy)


def test_a_missing_square_is_named_with_the_weights_it_leaves():
    verdict = check(form="wrong", coefficients=(0.0, 1.0, 1.0, 0.0), residual=1e-7, mistake="mu^2 is missing")
    finding = found(verdict, "computed wrongly: mu^2 is missing", at=KL_AT)
    assert "weights of mu^2/2, sigma^2/2, -log sigma and mu are 0, 1, 1, 0" in str(finding.evidence[0])


def test_a_gradient_of_no_kl():
    finding = found(check(form="wrong", residual=0.03), "not that of any Gaussian KL", at=KL_AT)
    assert [(e.measured, e.limit.value) for e in finding.evidence] == [(0.03, 1e-3)]


@pytest.mark.parametrize(
    ("residual", "what"), [(1.0e-3, "weights of"), (1.1e-3, "share of the regulariser's gradient")]
)
def test_limit_of_the_misfit(residual, what):
    assert check(form="wrong", residual=residual).evidence[0].what.startswith(what)


@pytest.mark.parametrize(
    ("mean", "sd", "ill"),
    [(0.0, 1.019, False), (0.0, 1.021, True), (0.0, 0.979, True), (0.02, 1.0, False), (-0.021, 1.0, True)],
)
def test_limits_of_another_prior(mean, sd, ill):
    verdict = check(form="learned prior", prior_mean=mean, prior_sd=sd)
    assert (not isinstance(verdict, Healthy)) is ill


def test_another_prior_is_named():
    verdict = check(form="learned prior", prior_mean=0.5, prior_sd=1.41)
    found(verdict, "N(0.5, 1.41^2), not N(0, 1)", at=KL_AT, severity="warning")


@pytest.mark.parametrize(
    ("mean", "sd", "meant"), [(0.0, 1.0, True), (0.17, 1.18, True), (0.18, 1.0, False), (0.0, 1.19, False), (0.0, 0.5, False)]
)  # fmt: skip
def test_another_prior_that_the_script_draws_from_is_meant(mean, sd, meant):
    """Moments of the draws, relative to the prior's in the loss."""
    draws = Sampling((replace(RIGHT, mean=mean, sd=sd),), (0.0, 2.0))
    verdict = check(form="learned prior", prior_sd=2.0, draws=draws)
    assert isinstance(verdict, Healthy) is meant


def test_a_grid_is_no_draw_from_it():
    draws = Sampling((replace(RIGHT, judged=False),), (0.0, 2.0))
    assert not isinstance(check(form="learned prior", prior_sd=2.0, draws=draws), Healthy)


def test_a_prior_with_parameters_is_meant():
    assert isinstance(check(replace(OBJECTIVE, prior_is_learned=True), form="learned prior", prior_sd=2.0), Healthy)


def test_nothing_is_said_of_what_cannot_be_audited():
    assert check(replace(OBJECTIVE, not_auditable="a flow"), form="wrong") == Skipped("a flow")


def test_a_density_that_is_no_gaussian_is_a_prior_too():
    assert isinstance(check(form="prior density", residual=1e-9), Healthy)
