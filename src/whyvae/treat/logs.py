"""Logarithms on the way from the decoder to the loss: of the output, or of the target where that was exchanged."""

from __future__ import annotations

from typing import Any

from whyvae.treat.terms import plain
from whyvae.watch.tape import Op, Ref

CROSS_ENTROPIES = {"binary_cross_entropy", "binary_cross_entropy_with_logits"}
SMALL = 1e-2  # a number added to a probability that is to guard its logarithm


def exchanged(subject: Any) -> Op | None:
    """The function that is given the output where the target belongs: a cross-entropy, or the log of one by hand."""
    deps = subject.deps
    ops: list[Op] = subject.tape.ops
    made = deps.descendants([subject.lineage.z])
    for op in ops:
        refs = [a.slot for a in (*op.args[:2], op.kwargs.get("input"), op.kwargs.get("target")) if isinstance(a, Ref)]
        if op.name in CROSS_ENTROPIES and len(refs) == 2 and refs[0] not in made and refs[1] in made:
            return op
        of_data = refs[:1] and refs[0] not in made and refs[0] not in deps.parametric and refs[0] not in deps.encoded
        if plain(op.name) in {"log", "log1p"} and of_data:
            after = [ops[p] for o in op.outs for p in deps.readers.get(o, [])]
            if any(plain(o.name) == "mul" and not made.isdisjoint(o.reads) for o in after):
                return op
    return None


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
