"""Which expression gave which argument of a recorded function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import libcst as cst

from whyvae.treat.source import Source, dotted
from whyvae.watch.dependencies import LOSSES, MIXING
from whyvae.watch.tape import Op, Ref

REVERSED = {"__rsub__", "__rdiv__", "__rpow__", "__rtruediv__", "__radd__", "__rmul__", "__rmatmul__", "rsub"}
COMMUTING = {"mul", "add", "__mul__", "__add__"}


def operands_of(
    op: Op, source: Source, node: cst.CSTNode, known: dict[int, str], values: dict[int, int]
) -> list[tuple[Any, cst.CSTNode]]:
    """(argument of `op`, its expression) for those that `node`, which called it, shows. `known`: slot -> its name there;
    `values`: id of an expression -> the slot it made.
    """
    args = list(op.args)
    if isinstance(node, cst.BinaryOperation | cst.AugAssign):
        sides = [node.left, node.right] if isinstance(node, cst.BinaryOperation) else [node.target, node.value]
        if len(args) < 2:
            return []
        if op.name in REVERSED or (op.name in COMMUTING and _exchanged(source, args, sides, known, values)):
            sides.reverse()
        return list(zip(args[:2], sides, strict=True))
    if isinstance(node, cst.UnaryOperation):
        return [(args[0], node.expression)] if args else []
    if isinstance(node, cst.Subscript | cst.Attribute):
        return [(args[0], node.value)] if args else []
    return _arguments(op, args, node, source) if isinstance(node, cst.Call) else []


def _exchanged(
    source: Source, args: list[Any], sides: Sequence[cst.CSTNode], known: dict[int, str], values: dict[int, int]
) -> bool:
    """`100 * kl` arrives as (kl, 100): which side is the tensor?"""
    if isinstance(args[1], Ref) or not isinstance(args[0], Ref):
        return False
    made = [values.get(id(side)) == args[0].slot for side in sides]
    if made[0] != made[1]:
        return made[1]
    left, right = (_certainly(side, float(args[1])) for side in sides)
    if left != right:
        return left
    plain = [_plain_number(side) or _of_numbers(source, side) for side in sides]
    if plain[0] != plain[1]:
        return plain[0]
    name = known.get(args[0].slot)
    if name is not None and any(dotted(side) == name for side in sides):
        return dotted(sides[1]) == name
    return (
        (not _looks_tensor(sides[0]) and _looks_tensor(sides[1]))
        or (simple(sides[0]) and not simple(sides[1]))
        or isinstance(sides[0], cst.Attribute)
    )


def _certainly(side: cst.CSTNode, value: float) -> bool:
    literal = number(side)
    return literal is not None and abs(literal - value) <= 1e-9 * abs(value)


# Of the library's functions, those called through an object (`criterion(output, x)`) with their own first arguments.
_THROUGH_OBJECTS = LOSSES | MIXING

_PLAIN_CALLS = {"len", "min", "max", "float", "int", "math", "np", "round", "abs"}


def _plain_number(side: cst.CSTNode) -> bool:
    """`min(1.0, step / 300)`, `0.5 * len(x)`: what Python itself computes."""
    if isinstance(side, cst.Call):
        return dotted(side.func).split(".")[0] in _PLAIN_CALLS
    if isinstance(side, cst.BinaryOperation):
        return _plain_number(side.left) and _plain_number(side.right)
    return number(side) is not None


def _of_numbers(source: Source, side: cst.CSTNode) -> bool:
    """`self.weights[k]`, where the file has `self.weights = {"kl": 1.0}`."""
    if not isinstance(side, cst.Subscript):
        return False
    name = dotted(side.value).split(".")[-1]
    for assign in source.nodes((cst.Assign, cst.AnnAssign)):
        targets = [assign.target] if isinstance(assign, cst.AnnAssign) else [t.target for t in assign.targets]
        held = assign.value.elements if isinstance(assign.value, cst.Dict) else ()
        if held and any(dotted(t).split(".")[-1] == name for t in targets):
            return all(number(e.value) is not None for e in held)
    return False


def _looks_tensor(side: cst.CSTNode) -> bool:
    """Calls of tensors' functions and arithmetic with them; a number is a literal, `len(x)`, `min(1, ...)`."""
    if isinstance(side, cst.Call):
        return dotted(side.func).split(".")[0] not in _PLAIN_CALLS
    if isinstance(side, cst.BinaryOperation):
        return _looks_tensor(side.left) or _looks_tensor(side.right)
    if isinstance(side, cst.UnaryOperation):
        return _looks_tensor(side.expression)
    return False


def _arguments(op: Op, args: list[Any], node: cst.Call, source: Source) -> list[tuple[Any, cst.CSTNode]]:
    given = [a.value for a in node.args if a.keyword is None and not a.star]
    named = {a.keyword.value: a.value for a in node.args if a.keyword is not None}
    function = node.func
    own = isinstance(function, cst.Attribute) and function.attr.value == op.name
    root = dotted(function).split(".")[0]
    if own and isinstance(function, cst.Attribute) and root not in imported(source):
        given = [function.value, *given]  # a method of the tensor
    elif not own and dotted(function).split(".")[-1] != op.name and op.name not in _THROUGH_OBJECTS:
        return []  # it was called inside of what stands there
    pairs: list[tuple[Any, cst.CSTNode]] = list(zip(args, given, strict=False))
    pairs += [(op.kwargs[k], v) for k, v in named.items() if k in op.kwargs]
    order = _ORDER.get(op.name, ())
    taken = len(given)
    pairs += [(args[i], named[k]) for i, k in enumerate(order) if i >= taken and i < len(args) and k in named]
    return pairs


_ERRORS = ("mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "l1_loss", "smooth_l1_loss")
_ORDER = dict.fromkeys(_ERRORS, ("input", "target"))


def simple(node: cst.CSTNode) -> bool:
    while isinstance(node, cst.Attribute):
        node = node.value
    return isinstance(node, cst.Name)


def imported(source: Source) -> set[str]:
    """Names that stand for modules, or for what was imported from one."""
    kept: set[str] | None = source.__dict__.get("_imported")
    if kept is None:
        kept = set()
        for node in source.nodes((cst.Import, cst.ImportFrom)):
            names = node.names
            for alias in () if isinstance(names, cst.ImportStar) else names:
                kept.add(alias.evaluated_alias or dotted(alias.name).split(".")[0])
        source.__dict__["_imported"] = kept
    return kept


def number(node: cst.CSTNode) -> float | None:
    """The value of a literal number; None for anything else."""
    if isinstance(node, cst.UnaryOperation) and isinstance(node.operator, cst.Minus):
        inner = number(node.expression)
        return None if inner is None else -inner
    if isinstance(node, cst.Integer | cst.Float):
        return float(node.evaluated_value)
    if isinstance(node, cst.BinaryOperation):
        left, right = number(node.left), number(node.right)
        if left is None or right is None:
            return None
        return _computed(node.operator, left, right)
    return None


def _computed(operator: cst.BaseBinaryOp, left: float, right: float) -> float | None:
    try:
        if isinstance(operator, cst.Power):
            return float(left**right)
        if isinstance(operator, cst.Multiply):
            return left * right
        return left / right if isinstance(operator, cst.Divide) else None
    except (ArithmeticError, TypeError):
        return None
