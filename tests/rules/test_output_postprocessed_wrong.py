"""GEN04 on literal pictures, on both sides of each limit."""

import math
from dataclasses import replace

import pytest

from whyvae.probe import CannotMeasure, OnDemand
from whyvae.probes.showing import Picture, Showing
from whyvae.probes.undone import Undone
from whyvae.rules.generation.output_postprocessed_wrong import OutputPostprocessedWrong
from whyvae.verdict import Finding, Healthy, Skipped, Where

RIGHT = Picture(
    at=Where("train.py", 60), by="`save_image`", cut=0.0, given=(0.0, 1.0), allowed=(0.0, 1.0), levels=math.inf, wrapped=0.0,
    contrast=1.0, left_out="", scrambled="",
)  # fmt: skip
CUT = replace(RIGHT, at=Where("train.py", 70), cut=0.68, given=(-1.0, 1.0), contrast=math.nan)


UNDONE = Undone(
    moved=0.5, samples="rows", original="table", feature=2, made=(14.5, 6.7), real=(28.8, 9.5), at=Where("train.py", 80),
)  # fmt: skip


def verdict(*pictures, units=None):
    shown = Showing(pictures) if pictures else None
    return OutputPostprocessedWrong.check(OnDemand(lambda: given(shown)), OnDemand(lambda: given(units)))


def given(measured):
    if measured is None:
        raise CannotMeasure("does not apply")
    return measured


@pytest.mark.parametrize(("moved", "severity"), [(0.04, None), (0.06, "warning"), (0.21, "error")])
def test_units_of_their_own_have_a_limit(moved, severity):
    found = verdict(units=replace(UNDONE, moved=moved))
    assert isinstance(found, Finding if severity else Healthy)
    assert getattr(found, "severity", None) == severity


def test_it_says_which_arrays_have_other_units():
    found = verdict(RIGHT, units=UNDONE)
    assert found.where == Where("train.py", 80)
    assert "`rows`" in found.summary
    assert "mean 14.5 and deviation 6.7 in column 2, where `table` has mean 28.8 and deviation 9.5" in found.summary


def test_without_anything_shown_or_rescaled_there_is_no_verdict():
    assert isinstance(verdict(), Skipped)


@pytest.mark.parametrize(("change", "severity"), [
    ({"cut": 0.04}, None), ({"cut": 0.06}, "warning"), ({"cut": 0.21}, "error"),
    ({"levels": 3}, None), ({"levels": 2}, "error"),
    ({"wrapped": 0.009}, None), ({"wrapped": 0.011}, "warning"), ({"wrapped": 0.21}, "error"),
    ({"contrast": 0.61}, None), ({"contrast": 0.59}, "warning"), ({"contrast": math.nan}, None),
    ({"scrambled": "the axes were not exchanged"}, "error"),
])  # fmt: skip
def test_each_loss_has_its_limit(change, severity):
    assert getattr(verdict(replace(RIGHT, **change)), "severity", None) == severity


def test_it_says_what_would_be_lost_and_where():
    found = verdict(CUT)
    assert isinstance(found, Finding)
    assert found.where == Where("train.py", 70)
    assert "68%" in found.summary
    assert "between -1 and 1" in found.summary


def test_raw_output_is_named():
    found = verdict(replace(CUT, left_out="sigmoid"))
    assert isinstance(found, Finding)
    assert "sigmoid" in found.summary
    assert "torch.sigmoid" in found.remedies[0].how


def test_the_last_picture_counts():
    assert isinstance(verdict(CUT, RIGHT), Healthy)
    assert isinstance(verdict(RIGHT, CUT), Finding)
