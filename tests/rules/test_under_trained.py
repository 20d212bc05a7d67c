"""TRN03 on literal branch tests, both sides of each limit."""

import math
from dataclasses import replace

import pytest

from whyvae.probes.branch import Arm, BranchTest
from whyvae.probes.generalisation import Generalisation
from whyvae.probes.straight import Straight
from whyvae.probes.wider import Gains, WiderBlocks
from whyvae.probes.widths import Widths
from whyvae.rules.training.under_trained import UnderTrained
from whyvae.verdict import Finding, Healthy, Skipped


def arm(factor, gain, error=0.1):
    return Arm(factor, 1e-3 * factor, (gain / 2, gain), error)


def branch(slower, same, faster, *more, achieved=18.0, unit="nats", last=1e-3):
    arms = (arm(0.1, slower), arm(1.0, same), arm(3.0, faster), *more)
    return BranchTest(arms, 300, 500, achieved, unit, 16, 8, 1e-3, last, None)


def check(branched, wider=None, widths=None, generalisation=None, straight=None):
    return UnderTrained.check(branched, lambda: wider, lambda: widths, lambda: generalisation, lambda: straight)


def held(gap):
    nan = math.nan
    return Generalisation(gap, 0.1, 512, nan, nan, 0, 18.0, "nats", 40, 40.0, 350.0, None, "")


def test_healthy_gains_little():
    assert isinstance(check(branch(0.3, 0.1, -0.8)), Healthy)


@pytest.mark.parametrize(("gain", "verdict"), [(3.6, Finding), (3.2, Healthy)])
def test_share_of_the_worth(gain, verdict):
    """(3.6 - 0.2) / 21.4 = 0.159, (3.2 - 0.2) / 21 = 0.143."""
    assert isinstance(check(branch(0.5, gain, 1.0)), verdict)


@pytest.mark.parametrize(("gain", "verdict"), [(1.3, Finding), (1.1, Healthy)])
def test_a_nat(gain, verdict):
    assert isinstance(check(branch(0.5, gain, 1.0, achieved=2.0)), verdict)


@pytest.mark.parametrize(("gap", "verdict"), [(9.4, Skipped), (8.9, Finding), (0.5, Finding)])
def test_what_is_learnt_by_heart_is_not_stopped_too_early(gap, verdict):
    """Held-out examples that cost more than the 9 nats which more steps would gain on those trained on."""
    found = check(branch(3, 9, 8), generalisation=held(gap))
    assert isinstance(found, verdict)
    if verdict is Skipped:
        assert found.reason.startswith("explained by TRN04")


def test_units_of_an_unknown_loss_are_judged_by_share_alone():
    assert isinstance(check(branch(0.01, 0.5, 0.3, achieved=0.3, unit="units of the loss")), Finding)


def test_severity():
    assert check(branch(2, 4, 4)).severity == "warning"
    assert check(branch(8, 30, 35)).severity == "error"


def test_smaller_steps_that_gain_more_are_another_illness():
    assert isinstance(check(branch(8, 4, -100)), Healthy)


def test_says_which_it_is():
    assert "stopped too early" in check(branch(3, 9, 10)).summary
    slow = check(branch(0.01, 0.1, 0.3, arm(10, 2), arm(30, 6), achieved=2.0))
    assert "too small: 300 more steps at 0.03 instead of 0.001" in slow.summary
    assert "lowered too early" in check(branch(3, 9, 8, last=1e-5)).summary
    fallen = check(branch(3, 9, 20, arm(10, 30), last=1e-5)).summary
    assert "lowered too early: it ended at 1e-05, and 300 steps at 0.001 take another 9 nats" in fallen


@pytest.mark.parametrize(("steps", "own", "calibrated", "verdict"), [
    (59, 4.0, 4.0, Finding), (60, 4.0, 4.0, Healthy), (59, 4.0, 3.0, Healthy), (59, 3.0, 4.0, Healthy),
])  # fmt: skip
def test_where_steps_are_slow_the_longer_course_of_the_trials_of_width_counts(steps, own, calibrated, verdict):
    """(4 - 0.4) / 21.6 = 0.167."""
    few = replace(branch(0.3, 1.0, 0.5), steps=steps)
    trials = WiderBlocks(Gains(own, 0, 0, 0), Gains(calibrated, 0, 0, 0), 0.1, 10.0, 256, 200, 0.2)
    found = check(few, trials, Widths(64, None, 64, None, 8, 144, active=8))
    assert isinstance(found, verdict)
    assert verdict is Healthy or "200 more steps take another 4 nats" in found.summary


@pytest.mark.parametrize(("active", "verdict"), [(0, Finding), (1, Healthy)])
def test_a_code_that_is_still_empty_is_given_the_longer_course(active, verdict):
    trials = WiderBlocks(Gains(2.0, 0, 0, 0), Gains(2.0, 0, 0, 0), 0.1, 0.1, 256, 600, 0.2)
    assert isinstance(check(branch(0.3, 1.0, 0.5), trials, Widths(64, None, 64, None, 8, 144, active=active)), verdict)


def test_an_empty_code_from_which_nothing_is_gained_has_come_to_rest():
    trials = WiderBlocks(Gains(1.2, 0, 0, 0), Gains(1.2, 0, 0, 0), 0.1, 0.1, 256, 600, 0.2)
    assert isinstance(check(branch(0.3, 0.5, 0.5), trials, Widths(64, None, 64, None, 8, 144)), Healthy)


def test_unknown_worth_is_no_verdict():
    assert isinstance(check(branch(3, 9, 8, achieved=math.nan)), Skipped)


def test_divergence_is_no_gain():
    diverged = Arm(3.0, 3e-3, (-math.inf,), math.nan)
    whole = branch(0.1, 0.0, 0.0)
    assert isinstance(check(replace(whole, arms=(*whole.arms[:2], diverged))), Healthy)


def test_three_times_the_rate_is_tuning():
    assert isinstance(check(branch(0.3, 1.0, 6.0)), Healthy)
    assert isinstance(check(branch(0.3, 1.0, 6.0, arm(10, 7.0))), Finding)


def test_a_poor_model_is_weighed_by_what_the_data_offer():
    """Measured on a decoder of three units: 2.3 nats are 0.16 of its 11, and 0.06 of the 36 of a linear decoder."""
    poor = branch(0.3, 2.3, 4.0, achieved=11.0)
    assert isinstance(check(poor), Finding)
    assert isinstance(check(replace(poor, offered=36.0)), Healthy)


@pytest.mark.parametrize(("gain", "width", "verdict"), [(19.0, 3, Healthy), (17.0, 3, Finding), (19.0, 64, Finding)])
def test_training_that_is_slow_for_a_narrow_part(gain, width, verdict):
    """Twice the 9 nats that more steps gain; of a part that is wide enough, slow is not small."""
    gained = Gains(1.0, 0.0, gain, gain)
    wider, widths = WiderBlocks(gained, gained, 0.3, 10.0, 256, 200), Widths(64, None, width, None, 2, 144)
    assert isinstance(check(branch(3, 9, 10), wider, widths), verdict)


@pytest.mark.parametrize(("gain", "verdict"), [(9.5, Healthy), (8.5, Finding)])
def test_a_part_with_no_more_units_than_latents_is_small_if_it_gains_more_than_steps_do(gain, verdict):
    gained = Gains(1.0, 0.0, gain, gain)
    wider, widths = WiderBlocks(gained, gained, 0.3, 10.0, 256, 200), Widths(64, None, 3, None, 8, 144)
    assert isinstance(check(branch(3, 9, 10), wider, widths), verdict)


@pytest.mark.parametrize(("trained", "width", "gain", "verdict"), [
    (599, 128, 9.0, Finding), (600, 128, 9.0, Healthy), (599, 127, 9.0, Healthy), (599, 128, 1.0, Healthy),
])  # fmt: skip
def test_a_short_run_of_wide_parts_that_stands_still_is_on_a_plateau(trained, width, gain, verdict):
    gained = Gains(0.1, 0.0, gain, gain)
    wider, widths = WiderBlocks(gained, gained, 0.3, 10.0, 256, 200), Widths(64, None, width, None, 8, 784)
    found = check(replace(branch(0.0, 0.0, 0.0), trained=trained), wider, widths)
    assert isinstance(found, verdict)
    if verdict is Finding:
        assert "on a plateau" in found.summary
        assert isinstance(
            check(replace(branch(0.0, 0.0, 0.0), trained=trained), wider, widths, straight=Straight(0, 3)), Healthy
        )
        assert "on a plateau" not in check(replace(branch(0.0, 9.0, 0.0), trained=trained), wider, widths).summary
