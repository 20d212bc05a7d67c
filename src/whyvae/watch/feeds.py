"""The data of each recorded step, in the places where the main step's data stands."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from whyvae.watch.dependencies import uses
from whyvae.watch.replay import Replay, ReplayFailed
from whyvae.watch.tape import Tape

if TYPE_CHECKING:
    from whyvae.watch.dependencies import Dependencies
    from whyvae.watch.step import Step

MOST_FED = (
    4  # times the largest tensor that enters the model: a larger one is a whole data set, of which rows are picked
)


def feeds_of(deps: Dependencies, steps: list[Step]) -> list[dict[int, Tensor]]:
    """One feed a step that runs the program of `deps.tape`: slot of that tape -> the step's own value, float64.

    All that a step computes from its data alone is fed, so that a batch picked by a written number
    (`x[order[i : i + 64]]`) is the step's own too. Slots that hold the same in all steps are fed as well.
    """
    tape = deps.tape
    wanted, key = _data(deps), tape.shape_key()
    found = []
    for step in steps:
        theirs = _matching(tape, step.tape) if step.tape.shape_key() == key else {}
        if not all(s in theirs for s in wanted):
            continue
        try:
            with torch.no_grad():
                values = Replay(_without_parameters(step.tape), {}).run([theirs[s] for s in wanted])
        except ReplayFailed:
            continue
        found.append({s: values[theirs[s]] for s in wanted})
    return found


def further_feeds(
    deps: Dependencies, train: list[dict[int, Tensor]], seen: list[tuple[int, Tensor]]
) -> list[dict[int, Tensor]]:
    """One feed for each of `seen` (slot through which data enters the encoder, what entered it in another step).

    None, unless all that the loss is made of in a step follows from what enters there: given only as the same numbers in
    another shape, or the same in every step of `train`.
    """
    slot = seen[0][0] if seen else -1
    if len(train) < 2 or slot not in train[0] or any(other != slot for other, _ in seen):
        return []
    same = [s for s in train[0] if all(_equal(feed[s], feed[slot]) for feed in train)]
    needed = deps.ancestors(deps.tape.roots, stop=set(same)) - deps.descendants(same)
    others = [s for s in train[0] if s in needed]
    if any(not torch.equal(feed[s], train[0][s]) for feed in train[1:] for s in others):
        return []
    constant, like, shape = {s: train[0][s] for s in others}, train[0][slot], deps.tape.slots[slot].shape
    values = [value.to(like) for _, value in seen if tuple(value.shape) == shape]
    return [{**constant, **{s: value.reshape(train[0][s].shape) for s in same}} for value in values]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.numel() == b.numel() and a.dtype == b.dtype and torch.equal(a.flatten(), b.flatten())


def _without_parameters(tape: Tape) -> Tape:
    """`tape` without the values of its parameters, which a replay would copy."""
    slots = [replace(s, value=None) if s.trainable else s for s in tape.slots]
    return Tape(tape.ops, slots, tape.roots, tape.step, tape.autocast, tape.compiled)


def _data(deps: Dependencies) -> list[int]:
    """Slots that depend on what a step brings with it, and on neither parameters nor draws."""
    brought, entering, slots = _brought(deps), entering_slots(deps), deps.tape.slots
    largest = max((slots[s].numel for s in entering), default=0) * MOST_FED
    return sorted(s for s in brought if s in entering or 1 < slots[s].numel <= largest)


def entering_slots(deps: Dependencies) -> set[int]:
    """Where a step's data meets parameters or draws (noise added to an image), or what was made of them."""
    brought = _brought(deps)
    changed = _moved(deps) | deps.drawn
    return {
        r for op in deps.tape.ops for r in uses(op) if r in brought and not changed.isdisjoint((*op.outs, *op.writes))
    }


def _brought(deps: Dependencies) -> set[int]:
    fresh = fresh_slots(deps.tape)
    return (deps.descendants(fresh) | set(fresh)) - _moved(deps) - deps.drawn


def _moved(deps: Dependencies) -> set[int]:
    """What changes when parameters do."""
    return deps.descendants([s.index for s in deps.tape.slots if s.trainable or s.parameter or s.live is not None])


def fresh_slots(tape: Tape) -> list[int]:
    """External tensors that a step brings with it: not parameters, not state it carries along."""
    used = {r for op in tape.ops for r in op.reads}
    return [
        s.index for s in tape.slots
        if s.index in used and s.external and not s.trainable and not s.parameter and s.live is None
        and s.value is not None and len(s.shape) > 0 and s.numel > 1
    ]  # fmt: skip


def earliest_parameters(tape: Tape, steps: list[Step]) -> dict[int, Tensor] | None:
    """Slot of `tape` -> value, of the first step that kept finite values of all its parameters."""
    mine = {id(s.value): s.index for s in tape.slots if s.trainable and s.value is not None}
    key = tape.shape_key()
    for step in steps:
        theirs = {mine[id(s.value)]: s.index for s in step.tape.slots if id(s.value) in mine}
        if len(theirs) < len(mine) and step.tape.shape_key() == key:  # made anew in each step
            matching = _matching(tape, step.tape)
            theirs = {s: matching[s] for s in mine.values() if s in matching}
        values = {s: step.parameters[other] for s, other in theirs.items() if other in step.parameters}
        if len(values) == len(mine) and all(bool(torch.isfinite(v).all()) for v in values.values()):
            return values
    return None


def _matching(mine: Tape, other: Tape) -> dict[int, int]:
    """Slot of `mine` -> slot of `other`, for two tapes of the same program."""
    found: dict[int, int] = {}
    for a, b in zip(mine.ops, other.ops, strict=True):
        for x, y in ((a.reads, b.reads), (a.outs, b.outs), (a.writes, b.writes)):
            found.update(zip(x, y, strict=False))
    return found
