"""The branch test: what training on from here would bring, at the user's rate, a tenth of it and three times it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.course import Course, Feed
from whyvae.probes.court import Court
from whyvae.probes.objective import Objective
from whyvae.verdict import Where
from whyvae.watch.replay import ReplayFailed

SECONDS = 4.0  # of the processor, for all arms: a busy machine must not change the verdict
MOST_SECONDS = 8.0  # where less would not give each arm enough steps
ENOUGH_STEPS = 60
MOST_STEPS = 300  # of an arm: 16 batches seen 19 times
FEWEST_STEPS = 10
MOST_PARAMETERS = 20_000_000  # an arm holds six copies in float64
FACTORS = (0.1, 1.0, 3.0)
BARELY = 3  # times the rate: more than that is worth a word
FURTHER = (10.0, 30.0, 100.0, 300.0, 1000.0)  # tried in turn, while each gains more than the one before
CHEAP = 0.01  # seconds: a gradient of this cost leaves time to judge with two draws of noise
FEWEST_BATCHES = 4
ENOUGH_BATCHES = 5
CHECKS = 3  # times an arm is judged, evenly spaced


@dataclass(frozen=True)
class Arm:
    """`gains`: after each third of the steps, on batches that the arm was not trained on."""

    factor: float
    rate: float
    gains: tuple[float, ...]
    error: float  # standard error of the last one, over batches
    least: float = -math.inf  # the smallest last gain of a batch

    @property
    def gain(self) -> float:
        return self.gains[-1]

    @property
    def sure(self) -> float:
        """What the arm gained at least: two standard errors below its last gain, or what every batch gained.

        The second is for losses of a ruined model, which a few examples rule: of 5 batches all exceed the median
        once in 32 times.
        """
        if not math.isfinite(self.gain):
            return self.gain
        return max(self.gain - 2 * self.error, self.least)


@dataclass(frozen=True)
class BranchTest(Probe):
    """Gains in nats per example: of the user's own objective in units of its KL, except that a noise variance below
    the squared error reached is read as that error (nats at a tiny variance mean nothing). Where the weight of the KL
    is not known, gains are in units of the loss (`unit`).

    `achieved` is what the outputs are worth, in the same unit: the loss with the best constant output in their place,
    minus the loss. `rate`: the KL.
    """

    arms: tuple[Arm, ...]
    steps: int  # of each arm
    trained: int  # steps of the run
    achieved: float
    unit: str
    fitted: int  # batches
    judged: int
    rate: float  # the largest that the run had
    last_rate: float
    at: Where | None  # where the optimiser steps
    reason: str = ""  # why there are no arms
    offered: float = math.nan  # as `achieved`, of the best linear reconstruction

    @property
    def slower(self) -> Arm:
        """At a tenth of the user's rate."""
        return self.arms[0]

    @property
    def same(self) -> Arm:
        return self.arms[1]

    @property
    def onward(self) -> Arm:
        """The best at the user's rate or above."""
        return max(self.arms[1:], key=lambda arm: arm.sure)

    @property
    def decisive(self) -> Arm:
        """The best at the same rate, or far above it: a rate within a factor of 3 of a good one is no fault."""
        return max((a for a in self.arms[1:] if a.factor == 1 or a.factor > BARELY), key=lambda a: a.sure)

    def share(self, arm: Arm) -> float:
        return share_of(worth(self.achieved, self.offered), arm)

    @classmethod
    def measure(cls, subject: Any, objective: Objective) -> Self:
        course = Course(subject)
        first = subject.optimizers[0] if subject.optimizers else None
        place = Where(*first.stepped_at) if first and first.stepped_at else None
        rates = (course.rate, (first.lr if first else 0.0) or course.rate)
        reason = _impossible(subject, course)
        if reason:
            return cls((), 0, subject.count, math.nan, "", 0, 0, *rates, place, reason)
        fit, judge = split(subject.train)
        try:
            with course.alone(fit[0]):
                begin = time.process_time()
                course.prime(fit)
                steps, noises = _afforded((time.process_time() - begin) / len(fit), len(judge))
                court = Court(course, objective, judge, noises)
                taught = [*fit, *subject.further]
                arms, achieved, offered = tuple(_arms(court, taught, steps)), court.achieved(), court.offered()
        except ReplayFailed as failed:
            raise CannotMeasure(str(failed)) from failed
        return cls(
            arms, steps, subject.count, achieved, court.unit, len(taught), len(judge), *rates, place, "", offered
        )


def _impossible(subject: Any, course: Course) -> str:
    """Why no training can be branched off here; empty if it can."""
    count = sum(p.numel() for p in subject.replay.parameters.values())
    if subject.count == 0:
        return "does not apply: a trained model was given, no training was seen"
    if subject.raised:
        return "explained by TRN01: an error about numbers that are none ended the run"
    if subject.broken:
        return "explained by TRN01: the trained parameters are no numbers to train on from"
    if len(subject.train) < FEWEST_BATCHES:
        return f"needs {FEWEST_BATCHES} recorded batches to train on from here, got {len(subject.train)}"
    if count > MOST_PARAMETERS:
        return f"a model of {count:.1g} parameters takes too long to train on in an examination"
    return "" if course.rate > 0 else "the learning rate was not seen"


def split(feeds: list[Feed]) -> tuple[list[Feed], list[Feed]]:
    """Every third batch is kept to judge by."""
    return [f for i, f in enumerate(feeds) if i % 3 != 1], feeds[1::3]


def _afforded(each: float, judged: int) -> tuple[int, int]:
    """(steps of an arm, draws of noise to judge with) for `each` seconds a gradient takes."""
    noises = 2 if each < CHEAP else 1
    judging = 0.5 * each * judged * noises * CHECKS
    wanted, most = ((s / len(FACTORS) - judging) / max(each, 1e-9) for s in (SECONDS, MOST_SECONDS))
    return max(FEWEST_STEPS, min(MOST_STEPS, int(max(wanted, min(most, ENOUGH_STEPS))))), noises


def _arms(court: Court, fit: list[Feed], steps: int) -> Iterator[Arm]:
    begin = time.process_time()
    arms = [_arm(court, fit, factor, steps) for factor in FACTORS]
    yield from arms
    for factor in FURTHER:
        late = time.process_time() - begin > MOST_SECONDS
        if late or not 2 * arms[-2].error < arms[-1].sure > arms[-2].gain:
            return
        arms.append(_arm(court, fit, factor, steps))
        yield arms[-1]


def _arm(court: Court, fit: list[Feed], factor: float, steps: int) -> Arm:
    with court.course.branched():
        return judged_course(court, fit, factor, steps)


def judged_course(court: Court, fit: list[Feed], factor: float, steps: int) -> Arm:
    """The arm of a course at `factor` times the rates, from the parameters the replay holds."""
    gains: list[float] = []
    gain = torch.zeros(0)
    checks = {math.ceil(steps * (k + 1) / CHECKS) for k in range(CHECKS)}
    done = 0
    try:
        for done in court.course.train(fit, factor):
            if done not in checks:
                continue
            gain = court.gained()
            finite = bool(torch.isfinite(gain).all())
            gains.append(float(gain.mean()) if finite else -math.inf)
            if done >= steps or not finite:
                break
    except ReplayFailed:  # a loss function that refuses what is no number: so the course has come to that
        if not done:
            raise
        gains.append(-math.inf)
    error = float(gain.std() / math.sqrt(len(gain))) if len(gain) > 1 else abs(gains[-1]) / 4
    least = float(gain.min()) if len(gain) >= ENOUGH_BATCHES else -math.inf
    return Arm(factor, factor * court.course.rate, tuple(gains), error, least)


def worth(achieved: float, offered: float) -> float:
    """What gains are weighed against; NaN if what was achieved is not known."""
    return achieved if math.isnan(offered) else max(achieved, offered)


def share_of(achieved: float, arm: Arm) -> float:
    """Of what the outputs would be worth after `arm`, how much it added: between 0 and 1; NaN if that is not known."""
    sure = max(0.0, arm.sure)
    return sure / max(achieved + sure, sure, 1e-300) if sure else 0.0
