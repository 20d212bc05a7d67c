"""Latents drawn side by side, as one: a step with several independent draws, rewritten so that it has a single one.

    eps1, eps2 = draws        ->  eps = one draw; eps1, eps2 = its columns
    z1 = A1 * eps1 + B1           z1, z2 as before
    z2 = A2 * eps2 + B2           z = [z1, z2]; z1, z2 = its columns, for all who read them

The numbers are the same, and what is known of a single latent (its KL, its use, its prior) holds for [z1, z2].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from whyvae.watch.dependencies import Dependencies
from whyvae.watch.draws import DIAGONAL, SIDE_BY_SIDE, Draw, drawn, sane_parameters
from whyvae.watch.meetings import meets_data
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.step import Step
from whyvae.watch.tape import Op, Ref, Slot, Tape, renamed


@dataclass(frozen=True, slots=True)
class _Plan:
    """Positions in `ops`, the same for all tapes of a program."""

    draws: tuple[int, ...]
    order: tuple[int, ...]  # of all ops: what the latents are made from comes first
    made: int  # how many of `order` those are
    latents: tuple[int, ...]  # positions of the ops that make the latents


def side_by_side(steps: list[Step]) -> list[Step]:
    """`steps`, with those rewritten whose latents are drawn side by side."""
    plans: dict[int, _Plan | None] = {}
    found = []
    for step in steps:
        key = step.tape.shape_key()
        if key not in plans:
            plans[key] = _plan(step.tape)
        plan = plans[key]
        found.append(step if plan is None else replace(step, tape=_joined(step.tape, plan)))
    return found


def _plan(tape: Tape) -> _Plan | None:
    """None where there are no two draws of rows as many, neither made from the other."""
    if sum(op.random for op in tape.ops) < 2:
        return None
    deps = Dependencies(tape)
    try:
        draws = drawn(deps, Replay(tape, sane_parameters(tape)))
    except ReplayFailed:
        return None
    draws = list({d.z: d for d in draws}.values())
    if len(draws) < 2 or not all(_plain(tape, d) and meets_data(deps, d.z) for d in draws):
        return None
    rows = {tape.slots[d.z].shape[0] for d in draws}
    latents = [d.z for d in draws]
    above = deps.ancestors(latents)
    behind = deps.descendants(latents)
    if len(rows) > 1 or any(not deps.descendants([z]).isdisjoint(set(latents) - {z}) for z in latents):
        return None
    first = [i for i, op in enumerate(tape.ops) if not above.isdisjoint((*op.outs, *op.writes))]
    rest = [i for i in range(len(tape.ops)) if i not in set(first)]
    if _disturbed(tape, first, rest) or not behind.isdisjoint(r for i in first for r in tape.ops[i].reads):
        return None
    places = tuple(deps.producer[z] for z in latents)
    return _Plan(tuple(d.noise_op for d in draws), (*first, *rest), len(first), places)


def _plain(tape: Tape, draw: Draw) -> bool:
    """Rows of numbers, each with a number of noise of its own, that an encoder scales and shifts."""
    shape = tape.slots[draw.z].shape
    mine = draw.kind == DIAGONAL and draw.both and draw.shift and draw.noise_op >= 0
    return mine and len(shape) == 2 and tape.slots[draw.eps].shape == shape and len(tape.ops[draw.noise_op].reads) < 2


def _disturbed(tape: Tape, first: list[int], rest: list[int]) -> bool:
    """Would an op that moves to the front no longer see what an earlier one wrote in place, or the other way round?"""
    last = max(first)
    passed = [tape.ops[i] for i in rest if i < last]
    written = {tape.slots[s].storage for op in passed for s in op.writes}
    moving = {tape.slots[s].storage for i in first for s in tape.ops[i].writes}
    read = {tape.slots[s].storage for i in first for s in tape.ops[i].reads}
    return not written.isdisjoint(read) or not moving.isdisjoint(
        tape.slots[r].storage for op in passed for r in op.reads
    )


def _joined(tape: Tape, plan: _Plan) -> Tape:
    draws = [tape.ops[i] for i in plan.draws]
    noises = [(*op.outs, *op.writes)[-1] for op in draws]
    latents = [(*tape.ops[i].outs, *tape.ops[i].writes)[-1] for i in plan.latents]
    slots, like = list(tape.slots), tape.slots[latents[0]]
    widths = [tape.slots[z].shape[1] for z in latents]
    eps, z, *parts = _new_slots(slots, [sum(widths), sum(widths), *widths], like)
    index = _indices(tape)
    shape = (like.shape[0], sum(widths))
    # the user's source shows neither of the two: they have no frames there
    noise = replace(draws[0], index=next(index), func=torch.randn, name=SIDE_BY_SIDE, args=(shape,), kwargs={}, out=Ref(eps),
                    reads=(), outs=(eps,), writes=(), random=True, frames=())  # fmt: skip
    join = replace(noise, index=next(index), func=torch.cat, name=SIDE_BY_SIDE, args=([Ref(s) for s in latents], 1), out=Ref(z),
                   reads=tuple(latents), outs=(z,), random=False, grad=True)  # fmt: skip
    columns = {
        i: _column(replace(op, random=False), eps, slot, start, width)
        for i, op, slot, (start, width) in zip(plan.draws, draws, noises, _spans(widths), strict=True)
    }
    apart = [
        _column(replace(join, index=next(index)), z, slot, start, width)
        for slot, (start, width) in zip(parts, _spans(widths), strict=True)
    ]
    same = dict(zip(latents, parts, strict=True))
    made = [columns.get(i, tape.ops[i]) for i in plan.order[: plan.made]]
    after = [renamed(tape.ops[i], same) for i in plan.order[plan.made :]]
    roots = [same.get(s, s) for s in tape.roots]
    return Tape([noise, *made, join, *apart, *after], slots, roots, tape.step, tape.autocast, tape.compiled)


def _new_slots(slots: list[Slot], widths: Iterable[int], like: Slot) -> list[int]:
    """Appended to `slots`: [rows, width], each with memory of its own."""
    storage = max((s.storage for s in slots), default=0)
    numbers = []
    for width in widths:
        storage += 1
        numbers.append(len(slots))
        slots.append(replace(like, index=len(slots), shape=(like.shape[0], width), storage=storage))
    return numbers


def _indices(tape: Tape) -> Iterator[int]:
    return iter(range(max(op.index for op in tape.ops) + 1, 2**62))


def _spans(widths: list[int]) -> list[tuple[int, int]]:
    """(first column, columns) of each."""
    return [(sum(widths[:i]), width) for i, width in enumerate(widths)]


def _column(op: Op, of: int, slot: int, start: int, width: int) -> Op:
    """`op` as one that gives columns of `of`."""
    return replace(op, func=torch.narrow, name="narrow", args=(Ref(of), 1, start, width), kwargs={}, out=Ref(slot),
                   reads=(of,), outs=(slot,), writes=())  # fmt: skip
