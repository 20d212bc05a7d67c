import math

import pytest

from whyvae import confidence
from whyvae.confidence import calibrated, margin, past, probability
from whyvae.rule import all_rules
from whyvae.verdict import Evidence, Finding, Limit


def evidence(measured, op=">", limit=1.0, text=""):
    return Evidence("x", measured, Limit(op, limit, "a reason"), text=text)


@pytest.mark.parametrize(
    ("measured", "op", "limit", "expected"),
    [
        (math.e, ">", 1.0, 1.0),
        (1.0, "<", math.e, 1.0),
        (1e9, ">", 1.0, 4.0),
        (math.nan, ">", 1.0, 4.0),
        (math.e - 2, ">", -1.0, 1.0),  # limit below zero: the difference, in units of the limit
    ],
)
def test_past_its_limit_on_a_log_scale(measured, op, limit, expected):
    assert past(measured, op, limit) == pytest.approx(expected)


def test_margin_is_that_of_the_weakest_incriminating_number():
    found = (evidence(math.e**2), evidence(math.e), evidence(0.5), evidence(5.0, text="seen"))
    assert margin(found) == pytest.approx(1.0)
    assert margin((evidence(5.0, text="seen"),)) == 0.0


def test_more_evidence_never_makes_less_sure():
    table = confidence.table()
    assert table["slope"] >= 0
    for code in table["offset"]:
        assert probability(table, code, 2.0) >= probability(table, code, 0.0)


def test_only_codes_of_rules_are_in_the_table():
    assert set(confidence.table()["offset"]) <= set(all_rules())


def test_codes_outside_the_table_keep_their_confidence(monkeypatch):
    monkeypatch.setattr(confidence, "table", lambda: {"slope": 1.0, "offset": {"CAP01": 0.0}})
    finding = Finding((evidence(math.e),), "x", "error", 0.9)
    assert calibrated("WIR01", finding) is finding
    assert calibrated("CAP01", finding).confidence == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-3)
