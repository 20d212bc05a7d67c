"""The same step with another batch size: the one question about a loss that its gradients at one size cannot answer."""

from __future__ import annotations

import ast
import linecache
import re
from dataclasses import replace
from typing import Any

import torch

from whyvae.watch.dependencies import origin
from whyvae.watch.draws import SIDE_BY_SIDE
from whyvae.watch.lineage import Lineage, find_as
from whyvae.watch.replay import Replay
from whyvae.watch.tape import Op, Ref, Slot, Tape

_SHAPED = {
    "view",
    "reshape",
    "expand",
    "repeat",
    "randn",
    "rand",
    "zeros",
    "ones",
    "full",
    "empty",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "unflatten",
    "tile",
    SIDE_BY_SIDE,
}
_RECURRENT = {"gru", "lstm", "rnn_tanh", "rnn_relu"}
_SCALED = {
    "div",
    "__truediv__",
    "div_",
    "__itruediv__",
    "true_divide",
    "mul",
    "__mul__",
    "__rmul__",
    "mul_",
    "__imul__",
}


def at_batch_size(subject: Any, share: float) -> list[tuple[Lineage, Replay]]:
    """The main step's lineage and replay with the first `share` of its examples, for each way to read the numbers written
    into the step.

    Sizes (`view(64, -1)`, `/ 64`, `/ len(x)`) are rewritten where they can only mean the batch; where an output of 64 numbers
    stands in a batch of 64, once as the batch and once as that width.

    Raises:
        ValueError: the batch is too small, or its size cannot be told from others.
    """
    tape, lineage = subject.tape, subject.lineage
    batch = tape.slots[lineage.z].shape[0]
    small = int(batch * share)
    others = _widths(tape, lineage, batch)
    if small < 2 or small == batch:
        raise ValueError(f"a batch of {batch} cannot be halved")
    if (line := _doubtful(tape, batch, others)) is not None:
        raise ValueError(f"a number in line {line} may hold the batch size as a factor")
    readings = [others, others - {batch}] if batch in others and _written(tape, batch) else [others]
    fed = _fed(subject)
    shrunk = [_shrunk(fed, batch, small, widths) for widths in readings]
    return [(find_as(tape, lineage), _replay(subject, tape)) for tape in shrunk]


def _fed(subject: Any) -> Tape:
    """The tape with the step's data given as it was, not picked again from a larger tensor."""
    tape, lineage, deps = subject.tape, subject.lineage, subject.deps
    given = {lineage.data} if lineage.data >= 0 else set()
    if lineage.target is not None and lineage.target >= 0:
        given.add(origin(deps, lineage.target))
    with torch.no_grad():
        values = subject.replay.run(sorted(given))
    slots = [
        replace(s, external=True, live=None, value=values[s.index].to(s.dtype))
        if s.index in given and not s.external
        else s
        for s in tape.slots
    ]
    ops = [op for op in tape.ops if given.isdisjoint(op.outs)]
    return Tape(ops, slots, list(tape.roots), tape.step, tape.autocast, tape.compiled)


def _widths(tape: Tape, lineage: Lineage, batch: int) -> set[int]:
    """What else a loss may be divided by: the numbers in an output or a latent, and the sides of either."""
    found: set[int] = set()
    for slot in (lineage.output, lineage.z, lineage.data):
        if slot >= 0:
            shape = tape.slots[slot].shape
            per_example = [n for i, n in enumerate(shape) if not (i == 0 and n == batch)]
            found |= {*per_example, _numel(tuple(per_example))}
    return found - {1}


def _numel(shape: tuple[int, ...]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


def _written(tape: Tape, batch: int) -> bool:
    """Does the step contain the batch size as a written number?"""
    return any(batch in [a for a in _flat(op.args) if isinstance(a, (int, float))] for op in tape.ops)


def _divides_by_share(op: Op, value: Any) -> bool:
    """Is it a division by a number below 1? Nobody divides by 1 / batch: it is a variance, as 2 * 0.1 ** 2 is."""
    return "div" in op.name and isinstance(value, float) and abs(value) < 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(args: Any) -> list[Any]:
    if isinstance(args, (list, tuple)):
        return [b for a in args for b in _flat(a)]
    return [args]


def _shrunk(tape: Tape, batch: int, small: int, others: set[int]) -> Tape:
    axes = {s.index: 0 for s in tape.slots if s.shape and s.shape[0] == batch} | _states(tape, batch)
    slots = [_fewer(s, axes[s.index], small) if s.index in axes else s for s in tape.slots]
    ops = [replace_args(op, batch, small, others) for op in tape.ops]
    return Tape(ops, slots, list(tape.roots), tape.step, tape.autocast, tape.compiled)


def _states(tape: Tape, batch: int) -> dict[int, int]:
    """States that recurrent layers are given, [layers, batch, units], and the axis of the batch."""
    given = {r for op in tape.ops if op.name in _RECURRENT for r in op.reads}
    slots = (tape.slots[s] for s in given)
    return {
        s.index: 1 for s in slots if s.external and not s.trainable and s.shape[1:2] == (batch,) and len(s.shape) == 3
    }


def _fewer(slot: Slot, axis: int, small: int) -> Slot:
    if slot.trainable or slot.parameter:  # as wide as the batch is large
        return slot
    shape = tuple(small if i == axis else n for i, n in enumerate(slot.shape))
    return replace(slot, shape=shape, value=None if slot.value is None else slot.value.narrow(axis, 0, small))


def replace_args(op: Op, batch: int, small: int, others: set[int]) -> Op:
    if op.name in _SHAPED:
        args = _first_size(op.args, batch, small)
        kwargs = {k: _first_size(v, batch, small) if k in {"size", "shape"} else v for k, v in op.kwargs.items()}
        return replace(op, args=args, kwargs=kwargs)
    if op.name in _SCALED and not _weighs(op, batch):
        widths = (others - {batch} if _divides_by_examples(op) else others) | _multiples(op)
        return replace(
            op, args=tuple(a if _divides_by_share(op, a) else _scaled(a, batch, small, widths) for a in op.args)
        )
    return op


_EXAMPLES = re.compile(r"len\(.*\)|.*\.shape\[0\]|.*\.size\((dim=)?0\)|\w*batch\w*", re.IGNORECASE)


def _divides_by_examples(op: Op) -> bool:
    """Does its line say that it divides by how many examples there are (`/ len(x)`), whatever else is as many?"""
    if "div" not in op.name or op.place is None:
        return False
    tree = _parsed(linecache.getline(op.place.file, op.place.line).strip())
    if tree is None:
        return False
    divisors = [ast.unparse(n.right) for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)]
    named = [d for d in divisors if _EXAMPLES.fullmatch(d)]
    return bool(named) and not any(_SIZES.search(d) for d in divisors if d not in named)


def _multiples(op: Op) -> set[int]:
    """`2` of a line with `2 * len(x)`: by how many times the number of examples it multiplies or divides."""
    tree = None if op.place is None else _parsed(linecache.getline(op.place.file, op.place.line).strip())
    products = (
        [] if tree is None else [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mult)]
    )
    pairs = [(a, b) for n in products for a, b in ((n.left, n.right), (n.right, n.left))]
    return {
        a.value for a, b in pairs
        if isinstance(a, ast.Constant) and type(a.value) is int and a.value > 1 and _EXAMPLES.fullmatch(ast.unparse(b))
    }  # fmt: skip


_SIZES = re.compile(r"len\(|shape|size\(|numel|batch|\b(n|b|bs|B|N)\b", re.IGNORECASE)


def _doubtful(tape: Tape, batch: int, others: set[int]) -> int | None:
    """The line of a factor that is no batch size, while the line speaks of a size: `/ (2 * 0.02 * len(x))`."""
    for op in tape.ops:
        if op.name not in _SCALED or op.place is None:
            continue
        numbers, widths = [a for a in op.args if _is_number(a)], others | _multiples(op)
        unread = any(_scaled(a, batch, batch // 2, widths) == a and a not in {0.5, -0.5, 2.0} for a in numbers)
        if unread and _hides_a_size(linecache.getline(op.place.file, op.place.line).strip()):
            return op.place.line
    return None


def _hides_a_size(source: str) -> bool:
    """Is something multiplied or divided by a product of a size and something else? (A size alone is known as one.)"""
    tree = _parsed(source)
    if tree is None:  # a line of a longer statement
        return _SIZES.search(source) is not None
    binary = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)]
    operands = [n.right for n in binary if isinstance(n.op, ast.Div | ast.Mult)]
    operands += [n.left for n in binary if isinstance(n.op, ast.Mult)]
    return any(isinstance(o, ast.BinOp) and _SIZES.search(ast.unparse(o)) for o in operands)


def _weighs(op: Op, batch: int) -> bool:
    """Is the op a product with a weight that happens to be as large as the batch, or as 1 / batch (`100 * kl` or
    `0.01 * kl`, with 100 examples)?

    Raises:
        ValueError: the number's name does not tell.
    """
    numbers = [a for a in op.args if _is_number(a)]
    if "mul" not in op.name or not numbers or op.place is None or not _like_a_size(numbers[0], batch):
        return False
    named = _factors(linecache.getline(op.place.file, op.place.line).strip())
    if named is None or any(_SIZES.search(name) for name in named):
        return False
    if numbers[0] in [_literal(name) for name in named] or (isinstance(numbers[0], float) and numbers[0] >= 1):
        return True
    raise ValueError(f"the number {numbers[0]} in line {op.place.line} may be a weight or the batch")


def _parsed(line: str) -> ast.Module | None:
    try:
        return ast.parse(line.removesuffix(":"))
    except SyntaxError:
        return None


def _like_a_size(value: float, batch: int) -> bool:
    if value == 0:
        return False
    multiple = value if abs(value) >= 1 else 1 / value
    return abs(multiple - round(multiple)) <= 1e-9 * abs(multiple) and round(multiple) % batch == 0


def _literal(source: str) -> float | None:
    try:
        return float(source)
    except ValueError:
        return None


def _factors(source: str) -> list[str] | None:
    """The operands of all products in a line, as written; None where there is none (in a longer statement, `x *= n`)."""
    tree = _parsed(source)
    if tree is None:
        return None
    products = [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mult)]
    return [ast.unparse(side) for n in products for side in (n.left, n.right)] or None


def _first_size(args: Any, batch: int, small: int) -> Any:
    """The first whole number of a shape, where it is the batch size (or a multiple: flattened batch * time)."""
    if isinstance(args, bool) or not isinstance(args, (list, tuple)):
        return args
    items = list(args)
    for i, item in enumerate(items):
        if isinstance(item, (list, tuple)):
            items[i] = _first_size(item, batch, small)
            break
        if isinstance(item, int) and not isinstance(item, bool):
            if item > 0 and item % batch == 0:
                items[i] = item // batch * small
            break
    return type(args)(items) if type(args) in {list, tuple} else tuple(items)


def _scaled(value: Any, batch: int, small: int, others: set[int]) -> Any:
    """A factor or divisor that can only be the batch size, or the batch times a width of the loss."""
    if isinstance(value, (bool, Ref)) or not isinstance(value, (int, float)) or value == 0:
        return value
    if (divisor := _of_batch(value, batch, others)) is not None:
        return type(value)(divisor * small)
    if (divisor := _of_batch(1 / value, batch, others)) is not None:
        return 1 / (divisor * small)
    return value


def _of_batch(value: float, batch: int, others: set[int]) -> int | None:
    """`value` / batch, where that is 1 or a width and `value` itself is no width."""
    near = round(value)
    if near <= 1 or abs(value - near) > 1e-9 * near or near % batch or near in others:
        return None
    rest = near // batch
    return rest if rest == 1 or rest in others else None


def _replay(subject: Any, tape: Tape) -> Replay:
    given = {i: p.detach() for i, p in subject.replay.parameters.items()}
    return Replay(tape, given)
