"""CAP03 on literal numbers, on both sides of each limit."""

from dataclasses import replace

import pytest
from literal import USAGE, found

from whyvae.probes.missed import MissedDirections
from whyvae.probes.more_latents import MoreLatents
from whyvae.probes.wider import Gains, WiderBlocks
from whyvae.probes.widths import Widths
from whyvae.rules.capacity.latent_too_small import LatentTooSmall
from whyvae.verdict import Healthy, Skipped, Where

LINE = Where("train.py", 21)
MISSED = MissedDirections(nats=6.0, before=0.45, after=0.3, added=2, rows=300)
SMALL = MoreLatents(own=6.0, calibrated=5.0, error=0.2, rate=8.0, added=2, steps=600, at=LINE)
DECODER = Widths(128, LINE, 3, LINE, 2, 64)  # of three units


def usage(active):
    return replace(USAGE, units=2, active=active)


def check(*, active=2, trained=True, wider=0.2, continued=0.1, residual=MISSED, **changes):
    """`wider`: what a wider decoder gains, and both parts together; `continued`: what more steps gain without."""
    gained = Gains(continued, 0.0, wider, wider)
    parts = WiderBlocks(gained, gained, 0.1, 8.0, 256, 200)
    return LatentTooSmall.check(
        usage(active), lambda: replace(SMALL, **changes) if trained else None, lambda: parts, lambda: DECODER,
        lambda: residual,
    )  # fmt: skip


def test_says_how_many_and_what_they_bring():
    finding = found(check(), "all 2 units are in use", "miss 45%", "with 2 more units", "gain 6 nats", at=LINE)
    assert finding.nats == 5.0
    assert finding.severity == "error"
    assert "4 or more units" in finding.remedies[0].how
    assert "miss" not in found(check(residual=None), "all 2 units are in use", at=LINE).summary


@pytest.mark.parametrize(
    ("field", "healthy", "ill"),
    [("own", 0.2 * 8 - 0.01, 0.2 * 8 + 0.01), ("calibrated", 0.49, 0.51), ("active", 1, 2)],
)
def test_both_sides_of_each_limit(field, healthy, ill):
    assert isinstance(check(**{field: healthy}), Healthy)
    found(check(**{field: ill}), "too small", at=LINE, severity="warning" if field == "own" else "error")


def test_where_little_is_missed_more_is_asked():
    little = replace(MISSED, before=0.09, after=0.02)
    assert isinstance(check(residual=little, own=0.5 * 8 - 0.1), Healthy)
    found(check(residual=little, own=0.5 * 8 + 0.1), "miss 9%", at=LINE)
    assert isinstance(check(residual=None, own=0.5 * 8 - 0.1), Healthy)


def test_a_code_that_is_all_but_empty_is_weighed_as_a_bit():
    assert isinstance(check(rate=0.1, own=0.69 * 0.2, calibrated=0.6), Healthy)
    found(check(rate=0.1, own=0.7, calibrated=0.7), "too small", at=LINE)


def test_a_part_that_is_too_small_is_repaired_first_unless_latents_gain_many_times_as_much():
    assert isinstance(check(wider=2.0), Healthy)
    found(check(wider=2.0, own=2.0 / 0.19), "too small", at=LINE)
    assert isinstance(check(wider=2.0, own=2.0 / 0.21), Healthy)


def test_gains_of_parts_that_are_not_too_small_say_nothing_against_it():
    found(check(wider=2.0, continued=5.0), "too small", at=LINE)  # more steps gain more than more width


def test_without_a_trial_there_is_no_verdict_and_none_is_needed_where_a_unit_is_spare():
    assert isinstance(check(trained=False), Skipped)
    assert isinstance(check(trained=False, active=1), Healthy)
