"""Logarithms on the way from the decoder to the loss."""

from __future__ import annotations

from typing import Any

from whyvae.treat.terms import plain
from whyvae.watch.tape import Op

SMALL = 1e-2  # a number added to a probability that is to guard its logarithm


def of_output(subject: Any) -> list[Op]:
    """Logarithms of what the decoder puts out, by hand: -inf where that is 0."""
    deps = subject.deps
    made = deps.descendants([subject.lineage.z])
    wanted = deps.ancestors(subject.tape.roots)
    return [
        op for op in subject.tape.ops
        if plain(op.name) == "log" and not made.isdisjoint(op.reads) and not wanted.isdisjoint(op.outs)
        and not _guarded(deps, op)
    ]  # fmt: skip


def _guarded(deps: Any, op: Op) -> bool:
    """Was what it reads clamped away from 0, or has it something small added, a few functions before?"""
    flipped = False  # 1 - p: an end of p above 1 is then what keeps the logarithm's argument above 0
    for _ in range(4):
        position = deps.producer.get(op.reads[0]) if op.reads else None
        if position is None:
            return False
        op = deps.tape.ops[position]
        small = [a for a in op.args if isinstance(a, float) and 0 < a < SMALL]
        if plain(op.name) == "add" and small:
            return True
        if op.name.startswith(("clamp", "clip")):
            return _apart(op, flipped)
        if plain(op.name) not in {"sub", "rsub", "neg", "mul"}:
            return False
        flipped ^= plain(op.name) in {"sub", "rsub"}
    return False


def _apart(op: Op, flipped: bool) -> bool:
    """Does a clamp keep numbers away from 0 (`flipped`: from 1)? One whose bound is no plain number is trusted to."""
    if op.name.startswith("clamp_m"):
        bound = op.args[1] if len(op.args) > 1 else op.kwargs.get("min", op.kwargs.get("max"))
        return op.name.startswith("clamp_max") == flipped and _inside(bound)
    position, name = (2, "max") if flipped else (1, "min")
    return _inside(op.args[position] if len(op.args) > position else op.kwargs.get(name))


def _inside(bound: Any) -> bool:
    """Above 0 and below 1? None bounds nothing."""
    if isinstance(bound, int | float):
        return 0 < bound < 1
    return bound is not None
