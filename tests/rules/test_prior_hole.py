"""GEN01, and what it shares with OBJ03, on literal measurements."""

from __future__ import annotations

from dataclasses import replace
from math import nan
from types import SimpleNamespace

import pytest

from whyvae.probes.generation import Ladder
from whyvae.probes.use import LatentUse
from whyvae.rules.generation.prior_hole import PriorHole
from whyvae.score import Measure, Score
from whyvae.verdict import Finding, Healthy, Skipped

check = PriorHole.check
VECTOR = LatentUse((10,), places=1, share=0.16, drawn=0)
MAP = LatentUse((4, 8, 8), places=64, share=1 / 48, drawn=0)
FROM_ENCODINGS = LatentUse((10,), places=1, share=0.16, drawn=3, from_encodings=True)
PLAIN = SimpleNamespace(
    posterior="diagonal Gaussian", regulariser=SimpleNamespace(own_prior=False), not_auditable=""
)  # fmt: skip


def scored(part, distance=0.01):
    """Density, coverage and recall at `part` of what real examples reach; squared distance in the data's variances."""
    share = Measure(part, 1.0, 0.02, 0.0)
    return Score(share, share, share, share, Measure(distance, 0.01, 0.002, 1.0), Measure(0, 0, 0.01, 1), 0.01, 500)


def blurred(coverage):
    """Half of `scored(0.8)` in quality by recall alone; real examples are come near as often as `coverage` says."""
    share = Measure(coverage, 1.0, 0.02, 0.0)
    return Score(
        scored(1).precision,
        Measure(0.1, 1.0, 0.02, 0.0),
        share,
        share,
        Measure(0.5, 0.01, 0.002, 1.0),
        Measure(0, 0, 0.01, 1),
        0.01,
        500,
    )


HOLE = Ladder(
    reconstruction=scored(1), fitted=scored(0.8), prior=scored(0.3, 0.5), components=8, hole=0.9, hole_low=0.87,
    hole_high=0.93, plausible_in_hole=0.2, plausible_fitted=0.8, held_out=False, rows=500,
)  # fmt: skip


def test_a_hole_that_spoils_samples():
    verdict = check(PLAIN, VECTOR, HOLE)
    assert isinstance(verdict, Finding)
    assert verdict.severity == "error"
    assert "90% of N(0, I)" in verdict.summary
    assert all(e.incriminating for e in verdict.evidence)
    assert [r.safety for r in verdict.remedies][-1] == "certain"


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"hole_low": 0.011}, True),
        ({"hole_low": 0.009}, False),
        ({"prior": scored(0.39, 0.5)}, True),  # below half of 0.8
        ({"prior": scored(0.41, 0.5)}, False),
        ({"prior": scored(0.3, 0.0600)}, True),  # 0.05 of the way from real examples (0.01) to their mean (1)
        ({"prior": scored(0.3, 0.0590)}, False),
        ({"prior": scored(0.0, 5.0)}, True),
        ({"prior": blurred(0.73)}, False),  # recall is lost, but no sample is misplaced and no example left out
        ({"prior": blurred(0.71)}, True),  # below nine tenths of 0.8: examples are left out
        (
            {"fitted": scored(0.4), "prior": scored(0.15, 0.5)},
            True,
        ),  # the place leaves three eighths, all else two fifths
        ({"fitted": scored(0.4), "prior": scored(0.17, 0.5)}, False),
        ({"fitted": scored(0.0), "prior": scored(0.0, 5.0)}, False),  # where encodings lie it is as bad
    ],
)
def test_limits(change, found):
    assert isinstance(check(PLAIN, VECTOR, replace(HOLE, **change)), Finding if found else Healthy)


@pytest.mark.parametrize(
    ("objective", "use"),
    [
        (PLAIN, MAP),
        (PLAIN, FROM_ENCODINGS),
        (SimpleNamespace(posterior="full covariance", regulariser=SimpleNamespace(own_prior=False)), VECTOR),
        (SimpleNamespace(posterior="diagonal Gaussian", regulariser=SimpleNamespace(own_prior=True)), VECTOR),
    ],
)
def test_where_nobody_draws_from_the_standard_normal(objective, use):
    verdict = check(objective, use, HOLE)
    assert isinstance(verdict, Skipped)
    assert verdict.reason.startswith("does not apply")


def test_says_nothing_where_the_prior_is_not_known():
    flow = SimpleNamespace(**{**vars(PLAIN), "not_auditable": "the sample passes a flow"})
    verdict = check(flow, VECTOR, HOLE)
    assert isinstance(verdict, Skipped)
    assert verdict.reason.endswith("the sample passes a flow")


@pytest.mark.parametrize(
    ("change", "by_design"),
    [
        ({}, True),
        ({"drawn": 1}, False),
        ({"places": 15}, False),
        ({"share": 1 / 65}, False),
        ({"share": nan}, False),
    ],
)
def test_a_map_made_for_another_model(change, by_design):
    assert replace(MAP, **change).for_another_model is by_design


def test_what_the_ladder_says_of_its_rungs():
    assert HOLE.prior_quality == pytest.approx(0.3 / 0.8)
    assert HOLE.prior_reach == pytest.approx(0.3 / 0.8)
    assert HOLE.prior_excess == pytest.approx(0.49 / 0.99)
