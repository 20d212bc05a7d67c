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
    """Was what it reads clamped, or has it something small added, a few functions before?"""
    for _ in range(4):
        position = deps.producer.get(op.reads[0]) if op.reads else None
        if position is None:
            return False
        op = deps.tape.ops[position]
        small = [a for a in op.args if isinstance(a, float) and 0 < a < SMALL]
        if op.name.startswith(("clamp", "clip")) or (plain(op.name) == "add" and small):
            return True
        if plain(op.name) not in {"sub", "rsub", "neg", "mul"}:
            return False
    return False
