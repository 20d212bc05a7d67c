"""Data and first states that a script asks gradients for: `Variable(x, requires_grad=True)`. Leaves to autograd, no parameters."""

from __future__ import annotations

from whyvae.watch.dependencies import RECURRENT, Dependencies
from whyvae.watch.recorder import copied
from whyvae.watch.tape import Tape


def take_as_data(tape: Tape, stepped: set[int]) -> None:
    """Makes data of the leaves that no optimiser has and that, by themselves, enter a layer which has parameters in `stepped`
    (ids), as its input or the state it begins with. A parameter that was forgotten is added, or stands where a weight does.
    """
    asking = [s for s in tape.slots if s.trainable and not s.parameter and id(s.value) not in stepped]
    if not asking:
        return
    deps, layers = Dependencies(tape), {s.index for s in tape.slots if id(s.value) in stepped}
    for slot in asking:
        if _enters(deps, slot.index, layers):
            slot.requires_grad = False
            slot.value = None if slot.value is None else copied(slot.value)


def _enters(deps: Dependencies, slot: int, layers: set[int]) -> bool:
    todo, seen, slots = [slot], {slot}, deps.tape.slots
    while todo:
        at = todo.pop()
        for position in deps.readers.get(at, []):
            op = deps.tape.ops[position]
            entered = op.reads if op.name in RECURRENT else op.reads[:1]
            if not layers.isdisjoint(op.reads) and at in entered and deps.is_mixing(op):
                return True
            alone = all(r == at or slots[r].numel == 1 for r in op.reads)
            new = [o for o in (*op.outs, *op.writes) if o not in seen] if alone else []
            seen.update(new)
            todo.extend(new)
    return False
