"""CAP03 on literal numbers, on both sides of each limit."""

from dataclasses import replace

import pytest
from literal import found

from whyvae.probes.missed import MissedDirections
from whyvae.probes.more_latents import MoreLatents
from whyvae.probes.wider import Gains, WiderBlocks
from whyvae.probes.widths import Widths
from whyvae.rules.capacity.latent_too_small import LatentTooSmall
from whyvae.verdict import Healthy, Where

LINE = Where("train.py", 21)
MISSED = MissedDirections(nats=6.0, before=0.45, after=0.3, added=2, rows=300)
SMALL = MoreLatents(MISSED, rate=8.0, wider=0.02, units=2, active=2, at=LINE)
GAINED = Gains(0.1, 0.0, 8.0, 8.0)
NARROW = WiderBlocks(GAINED, GAINED, 0.1, 8.0, 256, 200), Widths(128, LINE, 3, LINE, 2, 64)  # a decoder of three units


def check(**changes):
    ours = {k: v for k, v in changes.items() if k in {"nats", "before", "after"}}
    others = {k: v for k, v in changes.items() if k not in ours}
    parts = others.pop("parts", NARROW)
    return LatentTooSmall.check(
        replace(SMALL, missed=replace(MISSED, **ours), **others), lambda: parts and parts[0], lambda: parts and parts[1]
    )


def test_says_how_many_and_what_they_bring():
    finding = found(check(), "all 2 units are in use", "miss 45%", "2 more units would leave 30%", at=LINE)
    assert finding.nats == 6.0
    assert finding.severity == "error"
    assert "4 or more units" in finding.remedies[0].how


@pytest.mark.parametrize(
    ("field", "healthy", "ill"),
    [
        ("after", 0.45 - 0.099, 0.45 - 0.101),
        ("nats", 0.2 * 8 - 0.01, 0.2 * 8 + 0.01),
        ("wider", 0.21, 0.19),
        ("active", 1, 2),
    ],
)
def test_both_sides_of_each_limit(field, healthy, ill):
    assert isinstance(check(**{field: healthy}), Healthy)
    found(check(**{field: ill}), "too small", at=LINE, severity="warning" if field == "nats" else "error")


def test_half_a_nat_is_nothing_whatever_the_rate():
    assert isinstance(check(nats=0.49, rate=1.0), Healthy)
    found(check(nats=0.51, rate=1.0), "too small", at=LINE)


def test_larger_parts_that_gain_far_less_than_more_latents_do_not_matter():
    found(check(wider=0.3, nats=8.0 * 0.3 / 0.19), "too small", at=LINE)
    assert isinstance(check(wider=0.3, nats=8.0 * 0.3 / 0.21), Healthy)


def test_gains_of_parts_that_are_not_too_small_say_nothing_against_it():
    slow = Gains(20.0, 0.0, 8.0, 8.0)  # more steps gain more than more width
    wide = WiderBlocks(slow, slow, 0.1, 8.0, 256, 200), NARROW[1]
    found(check(wider=1.0, parts=wide), "too small", at=LINE)
    found(check(wider=1.0, parts=None), "too small", at=LINE)
    assert isinstance(check(wider=1.0), Healthy)
