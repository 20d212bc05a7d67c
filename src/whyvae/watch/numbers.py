"""Where numbers stopped being numbers: a tape run again at the precision it had, forwards and backwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whyvae.watch.feeds import fresh_slots
from whyvae.watch.recorder import Recorder
from whyvae.watch.replay import Edit, Replay, ReplayFailed
from whyvae.watch.step import Step
from whyvae.watch.tape import Op, Ref, Tape


@dataclass(frozen=True, slots=True)
class Break:
    """`op` made NaN or Inf of finite numbers: of its arguments, or (`backward`) of the gradient it was handed."""

    op: Op
    backward: bool


def first_break(tape: Tape, parameters: Mapping[int, Tensor] | None = None) -> Break | None:
    """Of the roots of `tape`, or of their gradients; None where all are finite, or the tape cannot be run again.

    `parameters`: slot -> value; those they hold now by default.
    """
    replay = Replay(tape, parameters)
    try:
        values = replay.run([*_made(tape), *tape.roots], edit=_as_it_was(tape))
        if not all(_finite(values[r]) for r in tape.roots):
            op = _forwards(tape, {**_entered(tape, replay), **values})
            return Break(op, backward=False) if op is not None else None
        return _backwards(tape, replay, values)
    except (ReplayFailed, RuntimeError):  # a replay, or autograd, that cannot
        return None


def _made(tape: Tape) -> list[int]:
    return [slot for op in tape.ops for slot in op.outs]


def _entered(tape: Tape, replay: Replay) -> dict[int, Tensor]:
    """Data and parameters."""
    return {s.index: s.value for s in tape.slots if s.external and s.value is not None} | replay.parameters


def _finite(value: Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _as_it_was(tape: Tape) -> dict[int, Edit]:
    """Each result rounded to float32 where the user's was: a sigmoid comes to 1 at 17, and exp overflows at 89.

    Memory that is written in place is left alone: a rounded copy would not be the same memory.
    """
    written = {tape.slots[s].storage for op in tape.ops for s in op.writes}
    slots = (tape.slots[s] for s in _made(tape))
    return {s.index: _single for s in slots if s.dtype == torch.float32 and s.storage not in written}


def _single(value: Tensor) -> Tensor:
    return value.float().double() if value.is_floating_point() else value


def _forwards(tape: Tape, values: Mapping[int, Tensor]) -> Op | None:
    """The earliest function on the way to a root that is none, whose own arguments were numbers.

    What a later function makes finite again (a mask of -inf before a softmax) does not lie on that way.
    """
    made = tape.producers()
    todo, seen, culprits = [r for r in tape.roots if not _finite(values[r])], set(tape.roots), []
    while todo:
        slot = todo.pop()
        if slot not in made:
            continue  # it came in like that
        op = tape.ops[made[slot]]
        worse = [r for r in op.reads if r in values and not _finite(values[r])]
        if not worse:
            culprits.append(op)
        todo += [r for r in worse if r not in seen]
        seen.update(worse)
    return min(culprits, key=lambda op: op.index, default=None)


def _backwards(tape: Tape, replay: Replay, values: Mapping[int, Tensor]) -> Break | None:
    """The last function that makes gradients of its arguments that are not finite of those of its results that are.

    A gradient may have become so on another way too, so each function is asked alone.
    """
    total = torch.stack([values[r].sum() for r in dict.fromkeys(tape.roots)]).sum()
    known = {**replay.parameters, **values}
    asked = [s for s, v in known.items() if v.requires_grad]
    if not total.requires_grad:
        return None
    grads = torch.autograd.grad(total, [known[s] for s in asked], retain_graph=True, allow_unused=True)
    handed = {s: g for s, g in zip(asked, grads, strict=True) if g is not None}
    bad = {s for s, g in handed.items() if not _finite(g)}
    for op in reversed(tape.ops):
        outs, reads = [o for o in op.outs if o in handed], [r for r in op.reads if r in bad]
        if not outs or not reads or not bad.isdisjoint(outs):
            continue
        alone = torch.autograd.grad(
            [known[o] for o in outs], [known[r] for r in reads], [handed[o] for o in outs],
            retain_graph=True, allow_unused=True,
        )  # fmt: skip
        if not all(g is None or _finite(g) for g in alone):
            return Break(op, backward=True)
    return None


# ---------------------------------------------------------------------- a step that never came to its backward
def unfinished_step(recorder: Recorder, steps: Iterable[Step]) -> Step | None:
    """The step that was being recorded when the script ended, where its loss is no number: checked by the script, which
    raised, went on with the next batch, or stopped. The loss is the last single number with a gradient history.
    """
    tape = recorder.tape
    singles = [s for op in tape.ops if op.grad for s in op.outs if _a_loss(tape, s)]
    if recorder.overflow or not singles:
        return None
    found = replace(tape, roots=[singles[-1]]).merged().sliced()
    try:
        loss = _value(found)
    except ReplayFailed:
        return None
    programs = {step.tape.shape_key() for step in steps}
    known = not programs or found.shape_key() in programs
    return Step(found, tape.step, loss) if known and not abs(loss) < float("inf") else None


def _a_loss(tape: Tape, slot: int) -> bool:
    s = tape.slots[slot]
    return s.numel == 1 and s.requires_grad and s.dtype.is_floating_point


def _value(tape: Tape) -> float:
    with torch.no_grad():
        values = Replay(tape).run(tape.roots, edit=_as_it_was(tape))
    return float(sum(value.sum() for value in values.values()))


def told_before_the_end(recorder: Recorder | None) -> str:
    """Of a script that stopped within its first forward pass: what its numbers were until then. "" if there were none."""
    if recorder is None or recorder.overflow or not recorder.tape.ops:
        return ""
    tape = recorder.tape
    try:
        with torch.no_grad():
            values = Replay(tape).run(_made(tape), edit=_as_it_was(tape))
    except ReplayFailed:
        return ""
    entered = [tape.slots[s].value for s in fresh_slots(tape)]
    data = [v.detach() for v in entered if v is not None and v.is_floating_point() and v.numel()]
    spans = [f"{float(v.min()):.3g} to {float(v.max()):.3g}" for v in data]
    shown = f"; the data it had met runs from {spans[0]}" if spans else ""
    for op in tape.ops:
        if any(not _finite(values[o]) for o in op.outs):
            line = f" (line {op.place.line})" if op.place else ""
            met = [values[a.slot] for a in op.args if isinstance(a, Ref) and a.slot in values]
            of = f" of numbers up to {max(float(v.abs().max()) for v in met if v.numel()):.3g}" if met else ""
            return f"; `{op.name}`{line} had made NaN or Inf{of}{shown}"
    return shown
