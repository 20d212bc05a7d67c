"""How the weight of the KL moves over the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

from whyvae.audit.likelihood import audit_likelihood
from whyvae.audit.regulariser import audit_regulariser
from whyvae.probe import CannotMeasure, Probe
from whyvae.probes.implied import noise_variance_of
from whyvae.probes.objective import Objective
from whyvae.watch.lineage import NoVAE, find
from whyvae.watch.replay import Replay, ReplayFailed

STEADY = 1.02  # the noise variance of a constant weight repeats itself to 1e-6
MORE = (0.0, 0.17, 0.33, 0.5, 0.83)  # of the run: looked at only where the weight moves at the end
LATE, EARLIEST, LATEST = 2 / 3, 0.45, 0.9  # of the run: where the weight is compared with that at the end
LAST = (0.85, 0.98)  # of the run: a step between them tells whether a weight that moved since LATE moves still
RESTING = 0.25  # of the pace since LATE: a weight that moves less than this between LAST and the end has arrived


@dataclass(frozen=True)
class Schedule(Probe):
    """`points`: (steps done, noise variance s or effective beta), in order; the last recorded step stands last, and one
    at two thirds of the run is among them. `count`: steps of the whole run. Where the likelihood learns its scale, s is
    what it would be at the scale of the end: it moves as the weight alone does.
    """

    points: tuple[tuple[int, float], ...]
    count: int
    arrived: bool = False  # it moved over the last third, and has come to rest since

    @classmethod
    def measure(cls, subject: Any, objective: Objective) -> Self:
        if not objective.weight_known:
            raise CannotMeasure(objective.not_auditable or "the weight of the KL is not known")
        key, main = subject.tape.program_key(), subject.main
        usual = [s for s in subject.steps if s.finite and s is not main and s.tape.program_key() == key]
        usual = [s for s in usual if s.index < main.index]
        if len(usual) < 3:
            raise CannotMeasure("does not apply: too few recorded steps to tell a schedule")
        read = _relative(objective) if objective.learned_scale else _s
        found = {main.index: objective.noise_variance}
        late = _nearest(usual, LATE * main.index)
        if main.index < subject.count / 2:
            raise CannotMeasure("does not apply: the second half of the run was not recorded")
        if not EARLIEST <= late.index / main.index <= LATEST:
            raise CannotMeasure("does not apply: no step was recorded in the last third of the run but its end")
        found[late.index] = read(late)
        if not 1 / STEADY < found[main.index] / max(found[late.index], 1e-300) < STEADY:
            for share in MORE:
                step = _nearest(usual, share * main.index)
                found.setdefault(step.index, math.nan)
                found[step.index] = read(step) if math.isnan(found[step.index]) else found[step.index]
        points = tuple((i, s) for i, s in sorted(found.items()) if not math.isnan(s))
        if len(points) < 2:
            raise CannotMeasure("the weight of the KL could not be read on further recorded steps")
        known = cls(points, subject.count)
        between = [s for s in usual if LAST[0] <= s.index / main.index <= LAST[1]]
        if not between or late.index >= between[-1].index:
            return known
        return replace(known, arrived=known.rests_from(between[-1].index, read(between[-1])))

    def rests_from(self, step: int, s: float) -> bool:
        """Does the weight, `s` at this step, move from there to the end far slower than it did over the last third?"""
        end, last = self.points[-1]
        return abs(last - s) < RESTING * abs(self.pace) * (end - step)

    @property
    def last(self) -> float:
        return self.points[-1][1]

    @property
    def late_change(self) -> float:
        """Factor between two thirds of the run and its end; inf where it was 0 before."""
        end = self.points[-1][0]
        late = min(self.points[:-1], key=lambda p: abs(p[0] - LATE * end))[1]
        return self.last / late if late > 0 else math.inf

    @property
    def highest(self) -> float:
        return max(s for _, s in self.points)

    @property
    def lowest(self) -> float:
        return min(s for _, s in self.points)

    @property
    def pace(self) -> float:
        """Change of s a step, over the last third."""
        end = self.points[-1]
        late = min(self.points[:-1], key=lambda p: abs(p[0] - LATE * end[0]))
        return (end[1] - late[1]) / max(1, end[0] - late[0])

    @property
    def at_end(self) -> float:
        """S when the run ended, which may be some steps after the last recorded one, at this pace."""
        return max(0.0, self.last + self.pace * max(0, self.count - self.points[-1][0]))

    def steps_until(self, s: float) -> float:
        """Steps from the end of the run until s is reached, at this pace (inf: never)."""
        away = s - self.at_end
        return away / self.pace if self.pace * away > 0 else math.inf


def _nearest(steps: list[Any], index: float) -> Any:
    return min(steps, key=lambda s: abs(s.index - index))


def _s(step: Any) -> float:
    """S of a recorded step at the parameters it had; 0 where no KL reaches the posterior, NaN where it is not known."""
    try:
        lineage = find(step.tape)
        replay = Replay(step.tape, step.parameters) if step.parameters else Replay(step.tape)
        likelihood, regulariser = audit_likelihood(lineage, replay), audit_regulariser(lineage, replay)
    except (NoVAE, ReplayFailed):
        return math.nan
    if regulariser.form == "none":
        return 0.0
    if likelihood is None or not regulariser.weighed:
        return math.nan
    return noise_variance_of(regulariser, likelihood)


def _relative(objective: Objective) -> Callable[[Any], float]:
    """The weight of the KL at a recorded step over that at the end, times s at the end; 0 and NaN as for `_s`."""

    def read(step: Any) -> float:
        try:
            lineage = find(step.tape)
            replay = Replay(step.tape, step.parameters) if step.parameters else Replay(step.tape)
            regulariser = audit_regulariser(lineage, replay)
        except (NoVAE, ReplayFailed):
            return math.nan
        if regulariser.form == "none":
            return 0.0
        share = regulariser.weight / objective.regulariser.weight
        return share * objective.noise_variance if regulariser.weighed else math.nan

    return read
