"""Parameters that a script makes anew in each step and steps by hand: `p = (p - lr * g).detach().requires_grad_()`.

On the tape such a tensor is the result of the update. For autograd it is a leaf, and for us a parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from whyvae.watch.recorder import Recorder
from whyvae.watch.tape import Tape


def take_as_parameters(recorder: Recorder, asked: list[Tensor]) -> bool:
    """Makes parameters of what the window computed and autograd holds for leaves; were there any?

    Those are what gradients are asked for by (`asked`), and what was made from a parameter of the same shape.
    """
    tape, wanted, found = recorder.tape, {id(t) for t in asked}, False
    for tensor, index in recorder.living():
        slot = tape.slots[index]
        leaf = tensor.requires_grad and tensor.is_leaf
        if leaf and not slot.external and not slot.requires_grad and (id(tensor) in wanted or _updated(tape, index)):
            slot.external = slot.leaf = slot.requires_grad = found = True
            slot.value, slot.storage = tensor, index
            for op in tape.ops:
                op.outs = tuple(s for s in op.outs if s != index)
    tape.ops = [op for op in tape.ops if op.outs or op.writes]
    return found


def _updated(tape: Tape, index: int) -> bool:
    """Was it computed from a parameter of its own shape?"""
    made, todo, seen = tape.producers(), [index], {index}
    while todo:
        position = made.get(todo.pop())
        if position is None:
            continue
        new = [r for r in tape.ops[position].reads if r not in seen]
        if any(tape.slots[r].trainable and tape.slots[r].shape == tape.slots[index].shape for r in new):
            return True
        seen.update(new)
        todo.extend(new)
    return False


def variables(loss: Tensor) -> list[Tensor]:
    """The leaves of its graph, in an order that is that of the program."""
    found: list[Tensor] = []
    todo: list[Any] = [loss.grad_fn]
    seen = set(todo)
    while todo:
        node = todo.pop()
        if node is None:
            continue
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            found.append(variable)
        new = [child for child, _ in node.next_functions if child not in seen]
        seen.update(new)
        todo.extend(dict.fromkeys(new))
    return found
