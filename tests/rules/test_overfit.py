"""TRN04 on literal measurements, both sides of each limit."""

import math
from dataclasses import replace

import pytest

from whyvae.probes.generalisation import Generalisation
from whyvae.rules.training.overfit import Overfit
from whyvae.verdict import Finding, Healthy, Skipped

NAN = math.nan
HELD = Generalisation(2.0, 0.1, 512, NAN, NAN, 0, 40.0, "nats", 900, 1300.0, 60.0, None, "")
LEFT_OUT = replace(HELD, gap=NAN, gap_error=NAN, held=0, forgotten=1.0, forgotten_error=0.1, steps=300)


@pytest.mark.parametrize(("gap", "verdict"), [(10.3, Finding), (10.1, Healthy)])
def test_a_quarter_of_the_worth(gap, verdict):
    """(10.3 - 0.2) / 40 = 0.2525, (10.1 - 0.2) / 40 = 0.2475."""
    assert isinstance(Overfit.check(replace(HELD, gap=gap)), verdict)


@pytest.mark.parametrize(("rise", "verdict"), [(4.3, Finding), (4.1, Healthy)])
def test_a_tenth_forgotten(rise, verdict):
    found = Overfit.check(replace(LEFT_OUT, forgotten=rise))
    assert isinstance(found, verdict)


@pytest.mark.parametrize(("gap", "verdict"), [(1.3, Finding), (1.1, Healthy)])
def test_a_nat(gap, verdict):
    assert isinstance(Overfit.check(replace(HELD, gap=gap, achieved=3.0)), verdict)


def test_held_out_data_decide_where_there_are_any():
    assert isinstance(Overfit.check(replace(HELD, forgotten=20.0, forgotten_error=0.1)), Healthy)


def test_severity_and_words():
    mild, bad = (Overfit.check(replace(HELD, gap=gap)) for gap in (12.0, 20.0))
    assert (mild.severity, bad.severity) == ("warning", "error")
    assert "one of 512 held-out examples" in bad.summary
    assert "about 1300 examples was seen 60 times" in bad.summary


def test_what_cannot_be_weighed():
    assert isinstance(Overfit.check(replace(HELD, gap=NAN, reason="no other data")), Skipped)
    assert isinstance(Overfit.check(replace(HELD, achieved=NAN)), Skipped)
    assert isinstance(Overfit.check(replace(HELD, achieved=-1.0)), Skipped)
