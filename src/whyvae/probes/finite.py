"""Whether, when and where numbers stopped being numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import isnan
from typing import Any, Self

import torch

from whyvae.probe import Probe
from whyvae.verdict import Where
from whyvae.watch.draws import sane_parameters
from whyvae.watch.numbers import Break, first_break

MOST_TRIED = 4  # recorded steps run again to find the function


@dataclass(frozen=True)
class Finiteness(Probe):
    """`step` is the first step whose loss was seen not to be finite (None: never); `op` the function that made NaN or Inf
    of finite numbers (in its gradient where `backward`). `parameters_finite`: those the run ended with; `ends_finite`:
    loss and gradients at these. `raised`: an error about such numbers that ended the run.
    """

    step: int | None
    parameters_finite: bool
    op: str
    at: Where | None
    steps: int
    lr: float
    largest_loss: float
    first_loss: float
    raised: str = ""
    backward: bool = False
    ends_finite: bool = True

    @property
    def broken(self) -> bool:
        return self.step is not None or not self.parameters_finite or not self.ends_finite or self.raised != ""

    @classmethod
    def measure(cls, subject: Any) -> Self:
        losses = subject.log.losses()
        seen = [s.index for s in subject.steps if not s.finite]
        step = min((s for s in (subject.log.first_not_finite(), *seen) if s is not None), default=None)
        broken = step is not None or subject.broken or subject.raised
        place = next(_breaks(subject), None) if broken else None
        finite = [abs(v) for _, v in losses if not isnan(v) and abs(v) != float("inf")]
        return cls(
            step,
            sane_parameters(subject.tape) is None,
            place.op.name if place else "",
            Where(*place.op.place) if place and place.op.place else None,
            subject.count,
            next((o.lr for o in subject.optimizers), float("nan")),
            max(finite, default=0.0),
            finite[0] if finite else 0.0,
            subject.raised,
            place is not None and place.backward,
            subject.ends_in is None,
        )


def _breaks(subject: Any) -> Iterator[Break]:
    """From the steps whose loss is no number, earliest first; then from the last ones before; then from the end."""
    broken = [s for s in subject.steps if not s.finite]
    before = [s for s in subject.steps if s.finite][::-1]
    for step in islice((s for s in broken + before if _sound(s)), MOST_TRIED):
        found = first_break(step.tape, step.parameters)
        if found is not None:
            yield found
    if subject.ends_in is not None:
        yield subject.ends_in


def _sound(step: Any) -> bool:
    """Were the parameters numbers before it? Those they hold now, where they were not kept."""
    values = step.parameters.values() or [s.value for s in step.tape.slots if s.trainable and s.value is not None]
    return all(bool(torch.isfinite(v).all()) for v in values)
