"""The rewind test: the same training again from its start, a short way, at a smaller learning rate."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.branch import MOST_PARAMETERS, Arm, judged_course, share_of, split, worth
from whyvae.probes.course import Course, Feed
from whyvae.probes.court import Court
from whyvae.probes.objective import Objective
from whyvae.verdict import Where
from whyvae.watch.replay import ReplayFailed

SECONDS = 1.2  # of an arm
MOST_STEPS = 150
FEWEST_STEPS = 10
SMALLER = (0.1, 0.01, 1e-3, 1e-4, 1e-5)  # times the user's rate, in turn until one leads somewhere
RUIN = 1.0  # nats: outputs worth less than that are no more than one constant picture, and further rates are tried
FEWEST_BATCHES = 2


@dataclass(frozen=True)
class Rewind(Probe):
    """Gains of short courses from the earliest parameters kept, over the parameters the run ended with; of a run that
    ended in numbers that are not finite, over those earliest parameters. Units as in `BranchTest`.

    `users`: of such a run, the same course at the user's own rate, to see whether it breaks there too.
    """

    arms: tuple[Arm, ...]  # each smaller than the one before
    users: Arm | None
    steps: int
    trained: int
    achieved: float  # by the end of the run, as in `BranchTest`
    unit: str
    rate: float
    at: Where | None
    reason: str = ""  # why there are no arms
    offered: float = math.nan  # as in `BranchTest`

    @property
    def best(self) -> Arm:
        return max(self.arms, key=lambda arm: arm.gain)

    def share(self, arm: Arm) -> float:
        """Of what the outputs would be worth after `arm`, how much is missing at the end of the run."""
        return share_of(worth(self.achieved, self.offered), arm)

    @classmethod
    def measure(cls, subject: Any, objective: Objective) -> Self:
        course, start = Course(subject), subject.earliest
        place = subject.optimizers[0].stepped_at if subject.optimizers else None
        at = Where(*place) if place else None
        reason = impossible(subject, course, start)
        if reason:
            return cls((), None, 0, subject.count, math.nan, "", course.rate, at, reason)
        fit, judge = split(subject.train)
        try:
            with course.alone(fit[0]):
                steps = afforded(course, fit[0])
                court = Court(course, objective, judge, 1)
                achieved = math.nan if subject.broken else court.achieved()
                offered = math.nan if subject.broken else court.offered()
                arms = tuple(_arms(court, fit, steps, start, achieved))
                users = _arm(court, fit, 1.0, steps, start) if subject.broken else None
        except ReplayFailed as failed:
            raise CannotMeasure(str(failed)) from failed
        return cls(arms, users, steps, subject.count, achieved, court.unit, course.rate, at, "", offered)


def impossible(subject: Any, course: Course, start: Feed | None) -> str:
    """Why the start cannot be tried again; empty if it can."""
    if start is None:
        return "the parameters of the start were not kept, so it cannot be tried again"
    if subject.count < 2 * FEWEST_STEPS or len(subject.train) < FEWEST_BATCHES:
        return f"needs {2 * FEWEST_STEPS} steps and {FEWEST_BATCHES} recorded batches to try the start again"
    if sum(p.numel() for p in start.values()) > MOST_PARAMETERS:
        return "the model takes too long to train in an examination"
    return "" if course.rate > 0 else "the learning rate was not seen"


def afforded(course: Course, feed: Feed) -> int:
    begin = time.process_time()
    course.gradients(feed, 0)
    affordable = int(SECONDS / max(time.process_time() - begin, 1e-9))
    return max(FEWEST_STEPS, min(MOST_STEPS, affordable, int(course.subject.count) // 2))


def _arms(court: Court, fit: list[Feed], steps: int, start: Feed | None, achieved: float) -> Iterator[Arm]:
    """Of a ruin: down to the rate after which the next smaller one gains less."""
    before = -math.inf
    for factor in SMALLER:
        arm = _arm(court, fit, factor, steps, start)
        yield arm
        if achieved > RUIN or arm.gain < before:
            return
        before = arm.gain


def _arm(court: Court, fit: list[Feed], factor: float, steps: int, start: Feed | None) -> Arm:
    with court.course.branched(start):
        return judged_course(court, fit, factor, steps)
