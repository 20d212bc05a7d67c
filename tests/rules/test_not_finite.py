"""TRN01 on literal measurements."""

from dataclasses import replace

from literal import NUMBERS, found

from whyvae.rules.training.not_finite import NotFinite
from whyvae.verdict import Healthy, Where

check = NotFinite.check
AT = Where("train.py", 40)


def test_a_loss_that_is_no_number():
    finding = found(check(replace(NUMBERS, step=12, op="exp", at=AT)), "at step 12 of 900, first in `exp`", at=AT)
    assert "learning rate 0.0001 instead of 0.001" in finding.remedies[0].how
    assert "exp runs over" in finding.remedies[1].how


def test_the_first_step_counts_too():
    finding = found(check(replace(NUMBERS, step=0, op="log", at=AT)), "in the first step, first in `log`", at=AT)
    assert [r.name for r in finding.remedies] == ["keep `log` where it is defined"]  # no step was too large


def test_a_gradient():
    numbers = replace(NUMBERS, step=1, op="__truediv__", at=AT, backward=True)
    finding = found(check(numbers), "first in the gradient of `__truediv__`", at=AT)
    assert [r.name for r in finding.remedies] == ["keep `div` where it is defined", "take smaller steps"]


def test_a_loss_that_would_be_no_number_in_the_next_step():
    found(check(replace(NUMBERS, ends_finite=False)), "after 900 steps the loss or its gradient is not finite")


def test_parameters_that_are_no_numbers():
    found(check(replace(NUMBERS, parameters_finite=False)), "parameters ended as NaN or Inf")


def test_a_script_stopped_by_a_number_that_is_none():
    raised = "ValueError: Expected parameter scale to satisfy the constraint GreaterThan(lower_bound=0.0)"
    found(
        check(replace(NUMBERS, raised=raised)), "after 900 steps the script stopped with ValueError: Expected parameter"
    )


def test_finite_is_healthy():
    assert isinstance(check(NUMBERS), Healthy)
