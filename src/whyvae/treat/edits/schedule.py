"""A schedule of the KL weight that ends within the run: what its steps are divided by, times a factor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.edits.kl_weight import found_weight
from whyvae.treat.literals import bindings, written
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, dotted, number
from whyvae.treat.terms import Terms

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.source import Source

SNIPPET = "beta = min(1.0, step / (total_steps / 2))  # reaches 1 at half of the training\n"
DEEPEST = 4


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["factor"]`: the new length of the schedule as a multiple of the old one."""
    sites, factor = Sites(case), float(settings["factor"])
    terms = Terms(sites)
    weights = [w for term in terms.kl if (w := found_weight(sites, terms, term)) is not None]
    where = weights[0][0].where if weights else ""
    lengths = [s for spot, _, _ in weights for s in _lengths(spot.source, spot.node, 0)]
    if len({id(s.node) for s in lengths}) != 1:
        raise NoEdit("the length of the schedule is not written down", SNIPPET, where)
    spot = lengths[0]
    value = number(spot.node)
    if value is not None:
        spot.source.replace(spot.node, written(value * factor, spot.code))
    else:
        spot.source.scale(spot.node, f"{written(factor)} * ")
    return sites.result()


def _lengths(source: Source, node: cst.CSTNode, depth: int) -> Iterator[Spot]:
    """What is divided by in an expression, in those its names stand for, and in what its functions return."""
    divisions = [n for n in source.nodes(cst.BinaryOperation, node) if isinstance(n.operator, cst.Divide)]
    if divisions:
        yield from (Spot(source, d.right) for d in divisions)
        return
    if depth > DEEPEST:
        return
    if isinstance(node, cst.Name | cst.Attribute):
        for value in bindings(source, node):
            yield from _lengths(source, value, depth + 1)
    for call in source.nodes(cst.Call, node):
        name = dotted(call.func).split(".")[-1]
        for function in (f for f in source.nodes(cst.FunctionDef) if f.name.value == name):
            for statement in source.nodes(cst.Return, function):
                yield from _lengths(source, statement.value, depth + 1)
