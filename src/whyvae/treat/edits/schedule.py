"""A schedule of the KL weight that ends within the run: what its steps are divided by, times a factor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings, key_of_item
from whyvae.treat.edits.kl_weight import found_weight, is_size
from whyvae.treat.literals import the_number, written
from whyvae.treat.operands import number
from whyvae.treat.program import property_of, returned
from whyvae.treat.reads import read_once
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted
from whyvae.treat.terms import Terms

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.source import Source

SNIPPET = "beta = min(1.0, step / (total_steps / 2))  # reaches 1 at half of the training\n"
DEEPEST = 4
BOUNDING = {"min", "max", "float", "minimum", "maximum", "clamp", "clip", "tensor", "as_tensor"}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["factor"]`: the new length of the schedule as a multiple of the old one."""
    sites, factor = Sites(case), float(settings["factor"])
    terms = Terms(sites)
    weights = [w for term in terms.kl if (w := found_weight(sites, terms, term)) is not None]
    where = weights[0][0].where if weights else ""
    found = {id(s.node): s for spot, _, _ in weights for s in lengths(spot)}
    spot = _longest(list(found.values()))
    if spot is None:
        raise NoEdit("the length of the schedule is not written down", SNIPPET, where)
    at = the_number(spot)
    if at is not None and (at[0].node is spot.node or (_whole(spot) and read_once(at[0]))):
        literal, value = at
        literal.source.replace(literal.node, written(value * factor, literal.code))
    else:
        spot.source.scale(spot.node, f"{written(factor)} * ")
    return sites.result()


def _whole(spot: Spot) -> bool:
    """Is the number the length itself: no sum that it is a part of?"""
    return not isinstance(spot.node, cst.BinaryOperation)


def _longest(found: list[Spot]) -> Spot | None:
    """The one; of several the only one that is a number written down, in steps or epochs."""
    if len(found) > 1:
        known = [(s, n[1]) for s in found if (n := the_number(s)) is not None and n[1] > 1]
        found = [s for s, _ in known] if len(known) == 1 else []
    return found[0] if found else None


def lengths(spot: Spot, depth: int = 0) -> Iterator[Spot]:
    """What a schedule's steps are divided by: in an expression, in those its names stand for, in what its functions return."""
    source, node = spot.source, spot.node
    if depth > DEEPEST:
        return
    divisions = [n for n in source.nodes(cst.BinaryOperation, node) if isinstance(n.operator, cst.Divide)]
    divisions = [d for d in divisions if number(d.left) is None and not is_size(Spot(source, d.right))]
    if divisions:
        yield from (Spot(source, d.right) for d in divisions)
        return
    for ramp in source.nodes(cst.Call, node):
        if dotted(ramp.func).split(".")[-1] == "linspace" and len(ramp.args) > 2:  # one weight for each step
            yield Spot(source, ramp.args[2].value)
            return
    for inner in _parts(source, node):
        if isinstance(inner, cst.Subscript) and key_of_item(inner) is None:
            yield from (s for value in _items(source, inner) for s in lengths(value, depth + 1))
        elif isinstance(inner, cst.Call):
            yield from (s for made in returned(Spot(source, inner)) for s in lengths(made, depth + 1))
        else:
            values = list(bindings(Spot(source, inner))) or list(property_of(Spot(source, inner)))
            yield from (s for value in values for s in lengths(value, depth + 1))


def _items(source: Source, item: cst.Subscript) -> Iterator[Spot]:
    """What is set, under any key, in the dictionary of `weights[k]`: `trainer.weights["kl"] = step / length`."""
    name = dotted(item.value).split(".")[-1]
    for file in source.family():
        for assign in file.nodes(cst.Assign):
            held = [t.target for t in assign.targets if key_of_item(t.target) is not None]
            if any(isinstance(t, cst.Subscript) and dotted(t.value).split(".")[-1] == name for t in held):
                yield Spot(file, assign.value)


def _parts(source: Source, node: cst.CSTNode) -> list[cst.CSTNode]:
    """The names, items and calls that an expression is made of, what calls are made with left out (but for `min` and the like)."""
    if isinstance(node, cst.Name | cst.Attribute):
        return [node]
    if isinstance(node, cst.Subscript):
        return [node] if key_of_item(node) is not None else [node.value, node]
    if isinstance(node, cst.Call):
        if dotted(node.func).split(".")[-1] in BOUNDING:
            return [p for a in node.args for p in _parts(source, a.value)]
        return [node]
    if isinstance(node, cst.BinaryOperation):
        return [*_parts(source, node.left), *_parts(source, node.right)]
    if isinstance(node, cst.IfExp):
        return [*_parts(source, node.body), *_parts(source, node.orelse)]
    return []
