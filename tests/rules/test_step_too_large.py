"""TRN02 on literal trials, both sides of each limit."""

import math
from dataclasses import replace

import pytest

from whyvae.probes.branch import Arm, BranchTest
from whyvae.probes.finite import Finiteness
from whyvae.probes.generalisation import Generalisation
from whyvae.probes.killed import Killed
from whyvae.probes.rewind import Rewind
from whyvae.probes.units import HiddenUnits, Layer
from whyvae.probes.wider import Gains, WiderBlocks
from whyvae.rules.training.step_too_large import StepTooLarge
from whyvae.verdict import Finding, Healthy, Skipped

NUMBERS = Finiteness(None, True, "", None, 1000, 1e-2, 50.0, 50.0)


def arm(factor, gain, error=0.1):
    return Arm(factor, 1e-2 * factor, (gain,), error)


def branch(slower, same, faster=-5.0, achieved=18.0, last=1e-2):
    return BranchTest(
        (arm(0.1, slower), arm(1.0, same), arm(3.0, faster)), 300, 1000, achieved, "nats", 16, 8, 1e-2, last, None
    )  # fmt: skip


def rewind(*gains, achieved=18.0, users=None):
    arms = tuple(arm(10.0 ** -(i + 1), gain) for i, gain in enumerate(gains))
    return Rewind(arms, users, 150, 1000, achieved, "nats", 1e-2, None)


def check(rewound, branched, numbers=NUMBERS, units=None, wider=None, killed=None, test=None):
    return StepTooLarge.check(
        rewound, branched, numbers, lambda: units, lambda: wider, lambda: killed, lambda: test
    )  # fmt: skip


def test_healthy():
    assert isinstance(check(rewind(-9.0), branch(0.4, 0.1)), Healthy)


@pytest.mark.parametrize(("gain", "verdict"), [(3.6, Finding), (3.2, Healthy)])
def test_only_smaller_steps_lead_on(gain, verdict):
    """(3.6 - 0.2) / 21.4 = 0.159, (3.2 - 0.2) / 21 = 0.143."""
    assert isinstance(check(rewind(-9.0), branch(gain, -1.0)), verdict)


@pytest.mark.parametrize(("slower", "same", "verdict"), [
    (2.0, -4.8, Finding), (2.0, -4.6, Healthy), (1.1, -9.0, Healthy), (2.0, -math.inf, Healthy),
])  # fmt: skip
def test_an_end_that_was_a_lucky_one(slower, same, verdict):
    """(4.8 - 0.2) / 18 = 0.256, (4.6 - 0.2) / 18 = 0.244; two nats are no 15 %."""
    found = check(rewind(-9.0), branch(slower, same))
    assert isinstance(found, verdict)
    assert verdict is Healthy or "at 0.01 as many add 4.8 to it" in found.summary


@pytest.mark.parametrize(("gain", "verdict"), [(1.3, Finding), (1.1, Healthy)])
def test_a_nat(gain, verdict):
    assert isinstance(check(rewind(-9.0), branch(gain, -1.0, achieved=2.0)), verdict)


def test_where_the_same_steps_gain_more_it_is_not_their_size():
    assert isinstance(check(rewind(-9.0), branch(6.0, 14.0)), Healthy)


def test_a_schedule_has_made_the_steps_small():
    assert isinstance(check(rewind(-9.0), branch(6.0, 1.0, last=1e-4)), Healthy)
    assert isinstance(check(rewind(4.0), branch(1.0, 9.0, last=1e-4)), Healthy)


@pytest.mark.parametrize(("gain", "verdict"), [(3.6, Finding), (3.2, Healthy)])
def test_a_short_course_from_the_start_ends_better(gain, verdict):
    found = check(rewind(gain), branch(0.0, 0.0))
    assert isinstance(found, verdict)
    if verdict is Finding:
        assert "150 steps from the same start at a learning rate of 0.001 end 3.6 nats" in found.summary
        assert found.severity == "error"


BROKEN = replace(NUMBERS, step=40, parameters_finite=False)
NONE = BranchTest((), 0, 1000, math.nan, "", 0, 0, 1e-2, 1e-2, None, "explained by TRN01: no numbers")
DIVERGED = Arm(1.0, 1e-2, (-math.inf,), math.nan)


def test_breaks_at_the_runs_rate_and_not_at_a_tenth():
    found = check(rewind(30.0, 10.0, achieved=math.nan, users=DIVERGED), NONE, BROKEN)
    assert isinstance(found, Finding)
    assert "stops being a number; from the same start at 0.001 it falls" in found.summary


def test_breaks_later_after_it_exploded():
    users = arm(1.0, 20.0)
    numbers = replace(BROKEN, largest_loss=501.0)
    assert isinstance(check(rewind(30.0, achieved=math.nan, users=users), NONE, numbers), Finding)
    numbers = replace(BROKEN, largest_loss=499.0)
    assert isinstance(check(rewind(30.0, achieved=math.nan, users=users), NONE, numbers), Healthy)


def test_breaks_at_any_rate():
    found = check(rewind(-math.inf, -math.inf, achieved=math.nan, users=DIVERGED), NONE, BROKEN)
    assert isinstance(found, Healthy)


def test_nothing_could_be_tried():
    nothing = Rewind((), None, 0, 12, math.nan, "", 1e-2, None, "needs 20 steps")
    assert isinstance(check(nothing, NONE), Skipped)
    assert isinstance(check(nothing, branch(0.1, 0.1)), Healthy)
    assert isinstance(check(nothing, branch(6.0, 0.1)), Finding)


DEAD = HiddenUnits((Layer("encoder", "relu", 100, 97, 1, None),), 1000, 4)


def lacks(gain):
    """Of a code of 10 nats."""
    gained = Gains(0.1, gain, 0.0, gain)
    return WiderBlocks(gained, gained, 0.3, 10.0, 256, 200)


@pytest.mark.parametrize(("users", "slower", "gain", "verdict"), [
    (0.95, 0.4, 5.0, Finding), (0.95, 0.8, 5.0, Healthy), (0.6, 0.4, 5.0, Healthy), (0.95, 0.4, 0.3, Healthy),
])  # fmt: skip
def test_steps_that_kill_units_which_smaller_ones_leave_alive(users, slower, gain, verdict):
    again = Killed((users,), (slower,), 150, 1e-2)
    found = check(rewind(-9.0), branch(0.4, 0.1), units=DEAD, wider=lacks(gain), killed=again)
    assert isinstance(found, verdict)
    if verdict is Finding:
        assert "95% of the units after `relu` in the encoder within 150 steps" in found.summary


@pytest.mark.parametrize(("gap", "verdict"), [(20.0, Healthy), (7.0, Finding)])
def test_what_is_learnt_by_heart_is_no_matter_of_steps(gap, verdict):
    nan = math.nan
    measured = Generalisation(gap, 0.1, 512, nan, nan, 0, 18.0, "nats", 900, 40.0, 60.0, None, "")
    assert isinstance(check(rewind(-9.0), branch(9.0, 1.0), test=measured), verdict)
