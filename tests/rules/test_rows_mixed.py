import math

import pytest

from whyvae.probes.rows import RowMixing
from whyvae.rules.wiring.rows_mixed import RowsMixed
from whyvae.verdict import Finding, Healthy, Skipped, Where

AT = Where("train.py", 7)


def rows(encoder=1.0, decoder=1.0, statistics="", by_design=""):
    return RowMixing(encoder, decoder, 0.25, "softmax", AT, statistics, AT if statistics else None, by_design)


@pytest.mark.parametrize(("encoder", "decoder", "part"), [(2.0, 1.0, "encoder"), (1.0, 2.0, "decoder")])
def test_two_examples_that_move_together_are_one_too_many(encoder, decoder, part):
    verdict = RowsMixed.check(rows(encoder, decoder))
    assert isinstance(verdict, Finding)
    assert (verdict.severity, verdict.where) == ("error", AT)
    assert f"in the {part}, at `softmax`" in verdict.summary
    assert len(verdict.evidence) == 1


def test_an_example_that_moves_alone_is_healthy():
    verdict = RowsMixed.check(rows())
    assert isinstance(verdict, Healthy)
    assert [e.measured for e in verdict.evidence] == [1.0, 1.0]


def test_what_could_not_be_told_of_one_half_does_not_silence_the_other():
    assert isinstance(RowsMixed.check(rows(math.nan, 3.0)), Finding)
    assert isinstance(RowsMixed.check(rows(math.nan, 1.0)), Healthy)


def test_statistics_by_hand_are_a_remark():
    verdict = RowsMixed.check(rows(statistics="mean"))
    assert isinstance(verdict, Finding)
    assert verdict.severity == "info"


@pytest.mark.parametrize("case", [rows(64.0, by_design="rows are the nodes of a graph"), rows(math.nan, math.nan)])
def test_does_not_apply(case):
    verdict = RowsMixed.check(case)
    assert isinstance(verdict, Skipped)
    assert verdict.reason.startswith("does not apply: ")
