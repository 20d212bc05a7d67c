"""Steps that the user takes without an optimiser: `p -= lr * p.grad`, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.operands import number
from whyvae.treat.program import loops
from whyvae.treat.sites import Spot
from whyvae.treat.source import Source, dotted

PLAIN = {"math", "np", "min", "max", "float", "int", "round", "len"}  # what makes numbers of numbers
DEEPEST = 8  # names and operations behind one another: `lr`, `lr0 * fade ** n`, `fade ** n`, `n`, `step + 1`, `step`
INTO = {"sub_": -1, "add_": 1, "addcdiv_": 1, "addcmul_": 1}  # methods that change what they are called on


@dataclass(frozen=True, eq=False)
class Step:
    """`statement` moves the parameter that `moved` names, by `rate` times something."""

    source: Source
    statement: cst.CSTNode
    moved: str
    rate: Spot


def steps(source: Source) -> list[Step]:
    """The steps of a file that stand beside a gradient, in a loop."""
    found = [*_augmented(source), *_assigned(source), *_called(source)]
    return [s for s in found if loops(source, s.statement) and _of_gradient(source, s.statement)]


def _augmented(source: Source) -> Iterator[Step]:
    """`p -= lr * g`, `p.data -= ...`."""
    for node in source.nodes(cst.AugAssign):
        rate = _rate(source, node.value) if isinstance(node.operator, cst.SubtractAssign) else None
        if rate is not None:
            yield Step(source, node, _bare(dotted(node.target)), rate)


def _assigned(source: Source) -> Iterator[Step]:
    """`p = p - lr * g`, `p.data = p.data - ...`, `[p - lr * g for p, g in ...]`."""
    for node in source.nodes(cst.BinaryOperation):
        rate = _rate(source, node.right) if isinstance(node.operator, cst.Subtract) else None
        statement, moved = source.statement(node), _bare(dotted(node.left))
        if rate is None or not moved or not isinstance(statement, cst.Assign):
            continue
        itself = statement.value is node and _bare(dotted(statement.targets[0].target)) == moved
        row = source.parent(node)
        if itself or (isinstance(row, cst.ListComp) and row.elt is node and statement.value is row):
            yield Step(source, statement, moved, rate)


def _called(source: Source) -> Iterator[Step]:
    """`p.sub_(lr * g)`, `p.data.add_(g, alpha=-lr)`, `p.addcdiv_(m, v, value=-lr)`."""
    for call in source.nodes(cst.Call):
        name = call.func.attr.value if isinstance(call.func, cst.Attribute) else ""
        statement = source.statement(call)
        if name not in INTO or not isinstance(statement, cst.Expr) or not call.args:
            continue
        weights = [a.value for a in call.args if a.keyword is not None and a.keyword.value in {"alpha", "value"}]
        given = weights[0] if weights else call.args[0].value
        towards = INTO[name]
        if isinstance(given, cst.UnaryOperation) and isinstance(given.operator, cst.Minus):
            given, towards = given.expression, -towards
        elif isinstance(given, cst.BinaryOperation) and isinstance(given.left, cst.UnaryOperation):
            towards = -towards  # `-lr * g`
        rate = (
            _rate(source, given) if weights == [] else Spot(source, given) if _is_number(Spot(source, given)) else None
        )
        if rate is not None and towards < 0 and _bare(dotted(call.func.value)):
            yield Step(source, statement, _bare(dotted(call.func.value)), rate)


def _bare(name: str) -> str:
    return name.removesuffix(".data")


def _rate(source: Source, node: cst.CSTNode) -> Spot | None:
    """The number among the factors of a product; None where there is none, or more than one."""
    found = [f for f in _factors(node) if _is_number(Spot(source, f))]
    return Spot(source, found[0]) if len(found) == 1 else None


def _factors(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    if isinstance(node, cst.BinaryOperation) and isinstance(node.operator, cst.Multiply | cst.Divide):
        yield from _factors(node.left)
        if isinstance(node.operator, cst.Multiply):
            yield from _factors(node.right)
    elif isinstance(node, cst.UnaryOperation):
        yield from _factors(node.expression)
    else:
        yield node


def _is_number(spot: Spot, depth: int = 0) -> bool:
    """A literal, or what has its value from literals alone: `2e-3 if step < 2000 else 4e-4`, `lr * 0.5`."""
    node, source = spot.node, spot.source
    if number(node) is not None:
        return True
    if depth > DEEPEST:
        return False
    if isinstance(node, cst.IfExp):
        return all(_is_number(Spot(source, n), depth + 1) for n in (node.body, node.orelse))
    if isinstance(node, cst.BinaryOperation):  # `lr0 * fade ** epoch`, but not the `m / (1 - b1 ** n)` of Adam
        return all(_is_number(Spot(source, n), depth + 1) for n in (node.left, node.right))
    if isinstance(node, cst.Call):
        return dotted(node.func).split(".")[0] in PLAIN
    if not isinstance(node, cst.Name | cst.Attribute | cst.Subscript):
        return False
    values = list(bindings(spot))
    return bool(values) and all(_is_number(v, depth + 1) or v.code == spot.code for v in values)


def _of_gradient(source: Source, statement: cst.CSTNode) -> bool:
    """Does it, or the loop around it, read a gradient?"""
    around = next(iter(loops(source, statement)))
    gradients = {"grad", "grads", "gradients"}
    return any(n.value in gradients for place in (statement, around) for n in source.nodes(cst.Name, place)) or any(
        n.attr.value == "grad" for place in (statement, around) for n in source.nodes(cst.Attribute, place)
    )
