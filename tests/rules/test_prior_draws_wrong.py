"""GEN02 on literal draws: which are the prior, which are not, and which are none of its business."""

from dataclasses import replace

import pytest
from literal import RIGHT

from whyvae.probes.sampling import Sampling
from whyvae.rules.generation.prior_draws_wrong import PriorDrawsWrong
from whyvae.verdict import Finding, Healthy, Where

UNIFORM = replace(RIGHT, at=Where("train.py", 70), drawn_by="rand", mean=0.5, sd=0.29, nats=0.91, nats_encodings=0.9)


def verdict(*places):
    return PriorDrawsWrong.check(Sampling(places, (0.0, 1.0)))


def test_draws_from_the_prior_are_right():
    assert isinstance(verdict(RIGHT), Healthy)


def test_uniform_draws_are_found_at_their_line():
    found = verdict(UNIFORM)
    assert isinstance(found, Finding)
    assert found.where == Where("train.py", 70)
    assert found.severity == "error"
    assert "uniform" in found.summary


@pytest.mark.parametrize(("nats", "wrong"), [(0.10, False), (0.12, True)])
def test_truncation_is_a_matter_of_taste(nats, wrong):
    assert isinstance(verdict(replace(RIGHT, sd=0.7, nats=nats, nats_encodings=nats)), Finding) is wrong


def test_draws_that_fit_the_encodings_are_right():
    assert isinstance(verdict(replace(RIGHT, sd=3.0, nats=2.9, nats_encodings=0.01)), Healthy)


def test_what_chance_explains_is_not_accused():
    few = replace(RIGHT, drawn_by="", numbers=32, nats=0.3, nats_encodings=0.3)
    assert isinstance(verdict(replace(few, chance=1e-4)), Healthy)
    assert isinstance(verdict(replace(few, chance=1e-8)), Finding)


def test_grids_and_fitted_densities_are_not_judged():
    assert isinstance(verdict(replace(UNIFORM, judged=False)), Healthy)


@pytest.mark.parametrize(("change", "wrong"), [
    ({}, True), ({"rows": 3}, False), ({"conditional": True}, False), ({"distinct": 2}, False),
])  # fmt: skip
def test_equal_latents_are_accused_unless_something_else_varies(change, wrong):
    same = replace(RIGHT, **{"distinct": 1, "judged": False, "sd": 0.0, "nats": 13.0, **change})
    assert isinstance(verdict(same), Finding) is wrong


def test_one_number_for_all_units_is_accused():
    assert isinstance(verdict(replace(RIGHT, distinct_units=1)), Finding)
    assert isinstance(verdict(replace(RIGHT, units=1, distinct_units=1)), Healthy)


def test_the_last_place_counts():
    assert isinstance(verdict(RIGHT, UNIFORM), Finding)
    assert isinstance(verdict(UNIFORM, RIGHT), Healthy)
    assert isinstance(verdict(UNIFORM, replace(RIGHT, judged=False)), Finding)


def test_another_prior_is_named():
    found = PriorDrawsWrong.check(Sampling((replace(RIGHT, sd=0.5, nats=0.32, nats_encodings=0.3),), (1.0, 2.0)))
    assert isinstance(found, Finding)
    assert "N(1, 2^2)" in found.summary


def test_a_prior_of_the_models_own_is_told_as_what_it_is():
    """It has no mean and spread to be compared with: the encodings are what counts."""
    place = replace(RIGHT, nats=0.4, nats_encodings=0.4)
    found = PriorDrawsWrong.check(Sampling((place,), (float("nan"), float("nan"))))
    assert isinstance(found, Finding)
    assert "prior of the model's own" in found.summary
    assert "nan" not in found.summary
    assert "mixture" in found.remedies[0].how
