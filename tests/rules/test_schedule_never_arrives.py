from dataclasses import replace
from types import SimpleNamespace

import pytest

from whyvae.probes.balance import Balance
from whyvae.probes.schedule import Schedule
from whyvae.rules.objective.schedule_never_arrives import ScheduleNeverArrives
from whyvae.verdict import Finding, Healthy, Where

AT = Where("train.py", 30)
OBJECTIVE = SimpleNamespace(regulariser_at=AT, own_variance=False, bernoulli=False)


def ramp(end, full=900):
    """The weight rises in a straight line and ends, or arrives, at `end`."""
    return Schedule(tuple((i, end * min(1.0, i / full)) for i in (0, 150, 300, 450, 600, 750, 900)), 900)


def balance(s, fitting=0.02, excess=0.5, threshold=1.0, kept=0.9):
    return Balance(s, fitting, threshold, kept, 3, 5, excess, 12.0, 4.0)


def check(schedule, **facts):
    return ScheduleNeverArrives.check(schedule, OBJECTIVE, balance(schedule.last, **facts))


def test_still_rising_and_light():
    verdict = check(ramp(0.001))
    assert isinstance(verdict, Finding)
    assert verdict.where == AT
    assert "17,100 steps away, and the run had 900" in verdict.summary


@pytest.mark.parametrize(("end", "verdict"), [(0.0099, Finding), (0.0101, Healthy)])
def test_half_of_what_fits_is_enough(end, verdict):
    assert isinstance(check(ramp(end)), verdict)


@pytest.mark.parametrize("excess", [0.051, 0.049])
def test_samples_may_do_without_it(excess):
    """It is told all the same; what is far from fitting and harms them is an error."""
    found = check(ramp(0.001), excess=excess)
    assert isinstance(found, Finding)
    assert (found.severity, found.nats is None) == ("warning", excess < 0.05)
    assert check(ramp(0.0007), excess=excess).severity == ("error" if excess > 0.05 else "warning")


@pytest.mark.parametrize(("end", "severity"), [(0.0007, "error"), (0.0009, "warning")])
def test_far_from_what_fits_is_an_error(end, severity):
    found = check(ramp(end))
    assert isinstance(found, Finding)
    assert found.severity == severity


def test_arrived_at_half_of_the_run_however_light():
    assert isinstance(check(ramp(0.001, full=450)), Healthy)


def test_a_cap_that_was_reached_late_is_where_it_was_to_arrive():
    assert isinstance(check(replace(ramp(0.001), arrived=True)), Healthy)


def test_a_cycle_that_ends_low_was_at_its_top():
    points = ((0, 0.0), (150, 0.02), (300, 0.02), (450, 0.0), (600, 0.02), (750, 0.0), (900, 0.001))
    assert isinstance(check(Schedule(points, 900)), Healthy)


def test_from_nothing_to_almost_nothing():
    assert isinstance(check(Schedule(((0, 0.0), (600, 0.0), (900, 1e-5)), 900)), Finding)


@pytest.mark.parametrize(("s", "verdict"), [(2.0, Finding), (0.5, Healthy)])
def test_falling_and_too_heavy(s, verdict):
    falling = Schedule(tuple((i, s * 10 ** (1 - i / 900)) for i in (0, 300, 600, 900)), 900)
    assert isinstance(check(falling), verdict)


def test_what_is_left_of_the_run_after_the_last_recorded_step_counts():
    points = ramp(0.008).points
    assert isinstance(check(Schedule(points, 900)), Finding)
    assert isinstance(check(Schedule(points, 1200)), Healthy)  # 0.0107 at its end
