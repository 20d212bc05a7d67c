"""Is a cross-entropy given the output where the target belongs? Told on the tape, so that it is seen in a broken run too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from whyvae.audit.reductions import TIMES
from whyvae.probe import Probe
from whyvae.verdict import Where
from whyvae.watch.tape import Op, Ref

CROSS_ENTROPIES = {"binary_cross_entropy", "binary_cross_entropy_with_logits"}


@dataclass(frozen=True)
class Exchange(Probe):
    """`at`: the line of the cross-entropy whose arguments have changed places."""

    found: bool
    at: Where | None

    @classmethod
    def measure(cls, subject: Any) -> Self:
        op = exchanged(subject)
        return cls(op is not None, Where(*op.place) if op is not None and op.place is not None else None)


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
        if op.name in {"log", "log_", "log1p"} and of_data:
            after = [ops[p] for o in op.outs for p in deps.readers.get(o, [])]
            if any(o.name in TIMES and not made.isdisjoint(o.reads) for o in after):
                return op
    return None
