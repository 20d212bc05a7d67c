"""How far the arms of a round train: what is left of the budget says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

FLOOR_S = 240.0  # a training this short need not be saved on: the default budget is no smaller
SHARE = 1.5  # of one training run, by default
SHORTEST = 0.1  # of the control's steps: less tells nothing
LATE = 0.9  # of an arm's cost: two runs of the same script differ by a tenth in time, and no round is lost over it


@dataclass(frozen=True, slots=True)
class Budget:
    """For all arms together: a share of one training, or seconds."""

    share: float = SHARE
    seconds: float | None = None
    floor: float = FLOOR_S

    def of(self, training: float) -> float:
        return self.seconds if self.seconds is not None else max(self.share * training, self.floor)


@dataclass(frozen=True, slots=True)
class Length:
    """`share` of the control's training, in optimiser steps; `steps` is None where it is the whole."""

    share: float = 1.0
    steps: int | None = None


WHOLE = Length()


def affordable(left: float, arms: int, known: Iterable[Length], steps: int, *, compared: bool = True) -> Length | None:
    """The longest training that `left`, in whole trainings, pays for in all `arms`; None where none is worth it.

    Arms are compared with the untreated script trained as long, from its own seeds (the whole training is known from the
    start) and from others: that costs as well, except at lengths already `known`. Of a new length one arm more is left
    room for: of a later round, which can then use that length again. `steps`: of the whole training. `compared`: False
    where nothing but a finding counts.
    """
    known = list(known)
    if left >= arms + (compared and WHOLE not in known):
        return WHOLE
    for length in sorted(known, key=lambda length: -length.share):
        if left >= LATE * arms * length.share:
            return length
    share = left / (arms + 2 * compared + 1)
    return Length(share, max(1, round(share * steps))) if share >= SHORTEST else None
