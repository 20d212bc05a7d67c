"""TRN06 on literal measurements."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from whyvae.probes.copies import CopiedStatistics
from whyvae.probes.normalisation import Normalisation
from whyvae.rules.training.batch_norm_gap import BatchNormGap
from whyvae.verdict import Finding, Healthy, Skipped, Where


def check(norm, copied=None):
    return BatchNormGap.check(norm, lambda: copied)


AT = Where("train.py", 12)
SETTLED = Normalisation(
    layers=2, kind="batch_norm", training=0.03, evaluation=0.02, renewed=0.02, drift=0.001, drift_then=0.003, momentum=0.1,
    cumulative=False, values=64, batch=64, steps=900, at=AT,
)  # fmt: skip
STALE = replace(SETTLED, evaluation=0.34, drift=0.4, drift_then=0.3)


@pytest.mark.parametrize(("evaluation", "found"), [(0.129, False), (0.131, True)])
def test_limit_of_what_evaluation_may_lose(evaluation, found):
    verdict = check(replace(STALE, evaluation=evaluation, momentum=0.99))
    assert isinstance(verdict, Finding if found else Healthy)


@pytest.mark.parametrize(("evaluation", "found"), [(0.059, False), (0.061, True)])
def test_statistics_that_cannot_have_settled_may_lose_what_settled_ones_do(evaluation, found):
    verdict = check(replace(STALE, evaluation=evaluation, momentum=1e-4))
    assert isinstance(verdict, Finding if found else Healthy)


def test_evaluation_that_is_better_than_training_is_healthy():
    assert isinstance(check(SETTLED), Healthy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"momentum": 1e-3, "steps": 500}, "after 500 steps at momentum 0.001 they are still 61% the values"),
        ({"momentum": 0.1, "steps": 20}, "after 20 steps at momentum 0.1 they are still 12%"),
        ({"momentum": 0.99}, "momentum 0.99 keeps the last batch only"),
        ({"momentum": 0.001, "cumulative": True}, "momentum=None"),
        ({"drift_then": 0.09}, "something other than training moved them"),
        ({"renewed": 0.2}, "each batch of 64 has statistics of its own"),
        ({"renewed": 0.2, "kind": "instance_norm"}, "each example has statistics of its own"),
        ({"steps": 0}, "renewed at these very weights they are"),
    ],
)
def test_says_why_the_modes_differ_and_where(change, words):
    verdict = check(replace(STALE, **change))
    assert isinstance(verdict, Finding)
    assert words in verdict.summary
    assert "0.34 of the data's variance" in verdict.summary
    assert "0.03" in verdict.summary
    assert verdict.where == AT
    assert verdict.remedies
    assert [e.incriminating for e in verdict.evidence] == [True]


@pytest.mark.parametrize("then", [0.11, nan])
def test_weights_that_move_too_fast_are_not_batch_norms_fault(then):
    verdict = check(replace(STALE, drift_then=then))
    assert isinstance(verdict, Skipped)
    assert "smaller learning rate" in verdict.reason


@pytest.mark.parametrize(
    ("momentum", "steps", "found"), [(0.1, 28, True), (0.1, 29, False), (0.51, 900, True), (0.5, 900, False)]
)
def test_limits_of_momentum_and_steps(momentum, steps, found):
    verdict = check(replace(STALE, momentum=momentum, steps=steps))
    assert isinstance(verdict, Finding if found else Skipped)


@pytest.mark.parametrize(("evaluation", "severity"), [(0.51, "error"), (0.49, "warning")])
def test_severity_is_what_evaluation_still_keeps(evaluation, severity):
    assert check(replace(STALE, evaluation=evaluation, momentum=1e-4)).severity == severity


@pytest.mark.parametrize(
    ("training", "values", "found"), [(0.13, 2, True), (0.11, 2, False), (0.13, 31, True), (0.13, 32, False)]
)
def test_limits_of_noise_from_small_batches(training, values, found):
    verdict = check(replace(SETTLED, training=training, values=values, batch=2))
    assert isinstance(verdict, Finding if found else Healthy)
    if found:
        assert f"from {values} numbers a channel (batches of 2)" in verdict.summary
        assert "from 0.02 to 0.13" in verdict.summary
        assert verdict.where == AT


@pytest.mark.parametrize(
    ("fresh", "changed", "ill"), [(4, 0.11, True), (4, 0.1, False), (0, 3.0, False), (1, 3.0, True)]
)
def test_a_copy_that_makes_the_samples(fresh, changed, ill):
    verdict = check(SETTLED, CopiedStatistics(layers=4, fresh=fresh, changed=changed, at=AT))
    assert isinstance(verdict, Finding if ill else Healthy)
    if ill:
        assert f"in {fresh} of 4 batch norms" in verdict.summary
        assert verdict.severity == ("error" if changed > 0.5 else "warning")
