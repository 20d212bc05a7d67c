import pytest

from whyvae.probes.variety import Variety, estimated
from whyvae.rules.data.data_degenerate import DataDegenerate
from whyvae.verdict import Finding, Healthy, Where

AT = Where("train.py", 9)


def variety(**changed):
    facts = {
        "steps": 24, "rows": 1536, "distinct": 1400, "estimate": 8000.0, "commonest": 0.002, "moving": 60, "features": 64,
        "available": 8000, "latents": 8, "binary": False, "at": AT,
    }  # fmt: skip
    return Variety(**{**facts, **changed})


def few(distinct, **changed):
    return variety(distinct=distinct, estimate=estimated(1536, distinct), available=distinct, **changed)


@pytest.mark.parametrize(("moving", "words"), [(0, "All examples are the same"), (1, "Only one number")])
def test_nothing_moves(moving, words):
    verdict = DataDegenerate.check(variety(moving=moving))
    assert isinstance(verdict, Finding)
    assert verdict.summary.startswith(words)
    assert verdict.where == AT


def test_constant_borders_are_harmless():
    assert isinstance(DataDegenerate.check(variety(moving=2)), Healthy)


def test_one_feature_of_one_is_all_there_is():
    assert isinstance(DataDegenerate.check(variety(moving=1, features=1)), Healthy)


@pytest.mark.parametrize(("share", "verdict"), [(0.51, Finding), (0.49, Healthy)])
def test_one_example_most_of_the_time(share, verdict):
    assert isinstance(DataDegenerate.check(variety(commonest=share)), verdict)


@pytest.mark.parametrize(
    ("distinct", "latents", "verdict"),
    [(39, 8, Finding), (41, 8, Healthy), (19, 2, Finding), (21, 2, Healthy), (99, 64, Finding), (101, 64, Healthy)],
)
def test_five_a_unit_between_twenty_and_a_hundred(distinct, latents, verdict):
    assert isinstance(DataDegenerate.check(few(distinct, latents=latents)), verdict)


@pytest.mark.parametrize(("distinct", "verdict"), [(9, Finding), (11, Healthy)])
def test_patterns_of_bits_may_be_few(distinct, verdict):
    assert isinstance(DataDegenerate.check(few(distinct, binary=True)), verdict)


def test_few_rows_seen_once_say_nothing_of_how_many_there_are():
    assert isinstance(DataDegenerate.check(variety(rows=24, distinct=13, estimate=17.0)), Healthy)


def test_one_batch_of_many():
    verdict = DataDegenerate.check(variety(distinct=256, estimate=256.0, available=1797))
    assert isinstance(verdict, Finding)
    assert "Of 1797 examples at hand" in verdict.summary


def test_full_batch_training_sees_all_there_is():
    assert isinstance(DataDegenerate.check(variety(rows=4096, distinct=256, estimate=256.0, available=256)), Healthy)
    assert isinstance(DataDegenerate.check(variety(rows=4096, distinct=256, estimate=256.0, available=0)), Healthy)
