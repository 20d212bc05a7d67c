"""The recorded steps that are kept, few enough and small enough, and when the next one is due."""

from __future__ import annotations

import time

from whyvae.watch.step import Step

BUDGET = 0.01  # share of the run's time that recording may take, beyond the first steps
# Times as far as the last recorded step: there one is due whatever it costs, so that the end is never far off.
AGAIN = 1.5
SUSTAINED = 0.2  # of that budget, once as many steps are kept as ever will be: new ones only replace old ones
FREE_STEPS = 3  # recorded whatever they cost
FREE_SECONDS = 0.05  # a short run may cost this much beyond its share
MOST_STEPS = 24
MOST_BYTES = 256 * 2**20  # data kept in all recorded steps


class Recordings:
    """`ratio`: a step is due when it lies so many times as far as the last one, whatever that costs; two runs then keep the
    same steps. By default the clock decides, under `budget`, a share of the run's time.
    """

    def __init__(self, budget: float = BUDGET, ratio: float | None = None) -> None:
        self.budget, self.ratio = budget, ratio
        self.steps: list[Step] = []
        self._fixed = 0.0  # of `spent`: the free steps
        self.begin()

    def begin(self) -> None:
        """The run starts now."""
        self._begin = time.perf_counter()
        self.spent = 0.0

    @property
    def spent(self) -> float:
        """Seconds of our own in recorded steps."""
        return self._spent

    @spent.setter
    def spent(self, seconds: float) -> None:
        """Sets the clock for the next recorded step, so that the hooks of a step need only look at it."""
        self._spent = seconds
        over = seconds - self._fixed - FREE_SECONDS
        budget = self.budget if len(self.steps) < MOST_STEPS else self.budget * SUSTAINED
        self._due_at = self._begin + over / budget if budget > 0 else float("inf")

    def due(self, count: int) -> bool:
        """Is the step after `count` to be recorded?"""
        if len(self.steps) < FREE_STEPS:
            self._fixed = self.spent
            return True
        if self.ratio is not None:
            return count >= self.ratio * self.steps[-1].index
        return count >= AGAIN * self.steps[-1].index or time.perf_counter() > self._due_at

    def keep(self, step: Step) -> None:
        """Of too many, those in the middle go."""
        self.steps.append(step)
        kept = sum(_bytes(s) for s in self.steps)
        while len(self.steps) > MOST_STEPS or (kept > MOST_BYTES and len(self.steps) > 4):
            dropped = self.steps.pop(len(self.steps) // 2 if len(self.steps) % 2 else 2)
            kept -= _bytes(dropped)


def _bytes(step: Step) -> int:
    return sum(
        s.value.numel() * s.value.element_size()
        for s in step.tape.slots
        if s.value is not None and not s.parameter and not s.trainable
    )
