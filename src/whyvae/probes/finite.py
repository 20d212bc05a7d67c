"""Whether, when and where numbers stopped being numbers."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import Any, Self

import torch

from whyvae.probe import Probe
from whyvae.verdict import Where
from whyvae.watch.replay import Replay, ReplayFailed


@dataclass(frozen=True)
class Finiteness(Probe):
    """`step` is the first step whose loss was seen not to be finite (None: never); `op` the first function whose
    result was not, on the last recorded step before or at it. `raised`: an error about such numbers that ended the run.
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

    @classmethod
    def measure(cls, subject: Any) -> Self:
        losses = subject.log.losses()
        broken = subject.log.first_not_finite()
        op, at = _first_bad_op(subject) if broken is not None or subject.broken else ("", None)
        finite = [abs(v) for _, v in losses if not isnan(v) and abs(v) != float("inf")]
        lr = next((o.lr for o in subject.optimizers), float("nan"))
        return cls(
            broken,
            not subject.broken,
            op,
            at,
            subject.count,
            lr,
            max(finite, default=0.0),
            finite[0] if finite else 0.0,
            subject.raised,
        )


def _first_bad_op(subject: Any) -> tuple[str, Where | None]:
    """Replays the broken steps, earliest first, until a function returns NaN or Inf from finite arguments."""
    for step in [s for s in subject.steps if not s.finite] or subject.steps[-1:]:
        if not step.parameters or not all(bool(torch.isfinite(v).all()) for v in step.parameters.values()):
            continue
        replay = Replay(step.tape, step.parameters)
        slots = [(op, s) for op in step.tape.ops for s in op.outs]
        try:
            with torch.no_grad():
                values = replay.run([s for _, s in slots])
        except ReplayFailed:
            continue
        for op, slot in slots:
            if not bool(torch.isfinite(values[slot]).all()):
                return op.name, Where(*op.place) if op.place else None
    return "", None
