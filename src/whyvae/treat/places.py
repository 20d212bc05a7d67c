"""Output and target in each other's place: told by the functions of the loss on the recorded step."""

from __future__ import annotations

import math
from typing import Any

import torch

from whyvae.probes.exchange import exchanged
from whyvae.watch.replay import ReplayFailed
from whyvae.watch.tape import Op, Ref

FAR = 10.0  # times the range of the data: a logit or a log-rate is at its end there
ONE_WAY = {
    "poisson_nll_loss",
    "kl_div",
}  # of the library's losses beside cross-entropies: the arguments mean different things


def misplaced(subject: Any) -> Op | None:
    """The function that is given the output where the target belongs, and the target where the output does."""
    found = exchanged(subject)
    if found is not None:
        return found
    made = subject.deps.descendants([subject.lineage.z])
    ops: list[Op] = subject.tape.ops
    for op in ops:
        given = [*op.args[:2], *(op.kwargs[k] for k in ("input", "target") if k in op.kwargs)]
        slots = [a.slot for a in given if isinstance(a, Ref)]
        if op.name in ONE_WAY and len(slots) == 2 and slots[0] not in made and slots[1] in made:
            return op
    return None


def has_bottom_when_turned(subject: Any) -> bool:
    """Does the reconstruction term with the other sign hold the output from both sides? Only then its sign is the mistake.

    Far below and far above the data the slope of the turned term must lead back. True where that cannot be computed (a
    likelihood of probabilities has no value there).
    """
    lineage, replay = subject.lineage, subject.replay
    slopes = []
    try:
        target = replay.run([lineage.target])[lineage.target].double()
        reach = FAR * float(target.max() - target.min() + 1)
        for at in (float(target.min()) - reach, float(target.max()) + reach):
            output = torch.full(subject.tape.slots[lineage.output].shape, at, dtype=target.dtype).requires_grad_()
            loss = replay.run(subject.tape.roots, feed={lineage.output: output})
            (slope,) = torch.autograd.grad(-torch.stack([v.sum() for v in loss.values()]).sum(), output)
            slopes.append(float(slope.mean()))
    except (ReplayFailed, RuntimeError, KeyError):
        return True
    below, above = slopes
    return math.isnan(below) or math.isnan(above) or below < 0 < above
