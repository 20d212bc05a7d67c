"""The noise that a script adds to what its decoder puts out, where it draws whole samples and not their means."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from whyvae.verdict import Where
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.step import Decoded
from whyvae.watch.tape import Op

STRAIGHT = 1e-9  # relative: mean + sd * noise, number by number


class Added(NamedTuple):
    """Gaussian noise around the outputs of one call of the decoder, both as means over their numbers."""

    variance: float
    spread: float  # variance of the outputs themselves, from sample to sample
    at: Where | None


def added_noise(subject: Any) -> Added | None:
    """Of the last call of the decoder whose outputs got such noise; None where none did.

    Of the calls of one line the last is looked at, and of the draws of one line the first after it: a gallery that is made
    in a loop has hundreds of both.
    """
    for call in _last_of_each_line(subject.decoded):
        deps = Dependencies(call.tape)
        behind = deps.descendants([call.slot])
        for op in _first_draws(call):
            if (found := _around(call, deps, behind, op)) is not None:
                return found
    return None


def _last_of_each_line(calls: list[Decoded]) -> list[Decoded]:
    """Newest first."""
    last: dict[object, Decoded] = {}
    for call in reversed(calls):
        last.setdefault(call.place, call)
    return list(last.values())


def _first_draws(call: Decoded) -> list[Op]:
    """In order."""
    first: dict[object, Op] = {}
    for op in call.tape.ops[call.op :]:
        if op.random:
            first.setdefault(op.place, op)
    return list(first.values())


def _around(call: Decoded, deps: Dependencies, behind: set[int], op: Op) -> Added | None:
    eps = (*op.outs, *op.writes)[-1]
    shape = call.tape.slots[eps].shape
    noisy = deps.descendants([eps])
    first = next((s for o in call.tape.ops for s in (*o.outs, *o.writes) if s in noisy & behind and s != eps), None)
    if first is None or eps in behind or len(shape) < 2 or call.tape.slots[first].shape != shape:
        return None
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    at = [_run(call, first, eps, n) for n in (torch.zeros_like(noise), torch.ones_like(noise), noise)]
    if any(a is None for a in at):
        return None
    mean, one, other = (a for a in at if a is not None)
    sd = one - mean
    scale = float(other.abs().max()) + float(mean.abs().max())
    if float((mean + sd * noise - other).abs().max()) > STRAIGHT * scale or float(sd.abs().max()) <= STRAIGHT * scale:
        return None
    place = op.place or call.place
    spread = float(mean.var(0, correction=0).mean())
    return Added(float(sd.square().mean()), spread, Where(*place) if place else None)


def _run(call: Decoded, slot: int, eps: int, noise: Tensor) -> Tensor | None:
    try:
        with torch.no_grad():
            return Replay(call.tape).run([slot], feed={eps: noise}, training=False)[slot]
    except ReplayFailed:
        return None
