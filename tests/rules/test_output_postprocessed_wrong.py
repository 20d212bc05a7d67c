"""GEN04 on literal pictures, on both sides of each limit."""

import math
from dataclasses import replace

import pytest

from whyvae.probes.showing import Picture, Showing
from whyvae.rules.generation.output_postprocessed_wrong import OutputPostprocessedWrong
from whyvae.verdict import Finding, Healthy, Where

RIGHT = Picture(
    at=Where("train.py", 60), by="`save_image`", cut=0.0, given=(0.0, 1.0), allowed=(0.0, 1.0), levels=math.inf, wrapped=0.0,
    contrast=1.0, left_out="", scrambled="",
)  # fmt: skip
CUT = replace(RIGHT, at=Where("train.py", 70), cut=0.68, given=(-1.0, 1.0), contrast=math.nan)


def verdict(*pictures):
    return OutputPostprocessedWrong.check(Showing(pictures))


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
