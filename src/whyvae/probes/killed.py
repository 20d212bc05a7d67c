"""Dead units after a short course of the same training from its start: at the rate of the run, and at a tenth of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.branch import split
from whyvae.probes.course import Course
from whyvae.probes.rewind import afforded, impossible
from whyvae.probes.units import HiddenUnits
from whyvae.watch.replay import ReplayFailed

SLOWER = 0.1  # times the rate of the run


@dataclass(frozen=True)
class Killed(Probe):
    """Share of dead units, layer by layer in the order of `HiddenUnits`."""

    users: tuple[float, ...]
    slower: tuple[float, ...]
    steps: int
    rate: float  # of the run

    @classmethod
    def measure(cls, subject: Any) -> Self:
        course, start = Course(subject), subject.earliest
        reason = impossible(subject, course, start)
        if reason:
            raise CannotMeasure(reason)
        fit, _ = split(subject.train)
        shares = []
        try:
            with course.alone(fit[0]):
                steps = afforded(course, fit[0])
                for factor in (1.0, SLOWER):
                    with course.branched(start):
                        next(step for step in course.train(fit, factor) if step >= steps)
                        trained = {i: p.detach().double() for i, p in course.replay.parameters.items()}
                    with subject.replay.holding(trained):
                        shares.append(tuple(layer.share for layer in HiddenUnits.measure(subject).layers))
        except ReplayFailed as failed:
            raise CannotMeasure(str(failed)) from failed
        return cls(shares[0], shares[1], steps, course.rate)
