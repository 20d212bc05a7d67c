"""A standardisation by written numbers is taken out, where the data lay in [0, 1] before it: `(x - 0.1307) / 0.3081`, `Normalize`.

What turns new examples back (`x * 0.3081 + 0.1307`) goes with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.literals import the_number
from whyvae.treat.operands import number
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, elements
from whyvae.treat.source import Source, dotted

if TYPE_CHECKING:
    from whyvae.treat.case import Case

NEAR = 0.02  # of the unit: what lies outside by more was not in it
SNIPPET = "x = x / 255  # in [0, 1] for a Bernoulli likelihood: no mean is taken off, no spread is divided by\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["low"]`, `settings["high"]`: the range of the data as the model sees it."""
    sites, low, high = Sites(case), float(settings["low"]), float(settings["high"])
    found = [f for source in sites.family for f in (*_differences(source, low, high), *_layers(source, low, high))]
    if len(found) != 1:
        raise NoEdit("no standardisation of data that lay in [0, 1] before is written down", SNIPPET)
    spot, kept, numbers = found[0]
    _out(spot, kept)
    for source in sites.family:
        for back, inner in _turned_back(source, numbers):
            source.replace(back, source.code(inner))
    return sites.result()


Found = tuple[Spot, cst.CSTNode | None, tuple[float, float]]


def _differences(source: Source, low: float, high: float) -> Iterator[Found]:
    """`(x - a) / b`."""
    for node in source.nodes(cst.BinaryOperation):
        inner = node.left
        if not isinstance(node.operator, cst.Divide) or not isinstance(inner, cst.BinaryOperation):
            continue
        shift, scale = _value(source, inner.right), _value(source, node.right)
        if isinstance(inner.operator, cst.Subtract) and shift and scale and _were_in_unit(low, high, [shift], [scale]):
            yield Spot(source, node), inner.left, (shift, scale)


def _layers(source: Source, low: float, high: float) -> Iterator[Found]:
    """`transforms.Normalize((a,), (b,))` in the list it stands in."""
    for call in source.nodes(cst.Call):
        if dotted(call.func).split(".")[-1] != "Normalize" or len(call.args) < 2:
            continue
        shifts, scales = ([number(e) for e in elements(a.value)] for a in call.args[:2])
        known = [s for s in (*shifts, *scales) if s]
        if len(known) == 2 * len(shifts) and _were_in_unit(low, high, known[: len(shifts)], known[len(shifts) :]):
            yield Spot(source, call), None, (known[0], known[-1])


def _value(source: Source, node: cst.CSTNode) -> float | None:
    found = the_number(Spot(source, node))
    return None if found is None else found[1]


def _were_in_unit(low: float, high: float, shifts: list[float], scales: list[float]) -> bool:
    """Do the ends of [0, 1] come out where the data ends? What reaches half as far may have had no brighter example."""
    bottom = min(-a / b for a, b in zip(shifts, scales, strict=True))
    top = max((1 - a) / b for a, b in zip(shifts, scales, strict=True))
    near = NEAR * (top - bottom)
    return bottom - near <= low and high <= top + near and high - low > (top - bottom) / 2


def _out(spot: Spot, kept: cst.CSTNode | None) -> None:
    """`x = (x - a) / b` goes with its line; elsewhere `x` stays."""
    source, node = spot.source, spot.node
    statement = source.statement(node)
    if kept is not None:
        itself = isinstance(statement, cst.Assign) and statement.value is node and len(statement.targets) == 1
        if itself and source.code(statement.targets[0].target) == source.code(kept):  # type: ignore[union-attr]
            source.remove(statement)  # type: ignore[arg-type]
        else:
            source.replace(node, source.code(kept))
        return
    element = source.parent(node)
    row = source.parent(element) if element is not None else None
    every = list(getattr(row, "elements", ()))
    at = every.index(element) if element in every else 0
    if at == 0 or not isinstance(row, cst.List):
        raise NoEdit("the standardisation is not the last of several steps", SNIPPET, spot.where)
    source.cut(every[at - 1].value, node)


def _turned_back(source: Source, numbers: tuple[float, float]) -> Iterator[tuple[cst.CSTNode, cst.CSTNode]]:
    """(`x * b + a`, its `x`)."""
    for node in source.nodes(cst.BinaryOperation):
        inner = node.left
        if not isinstance(node.operator, cst.Add) or not isinstance(inner, cst.BinaryOperation):
            continue
        values = _value(source, node.right), _value(source, inner.right)
        if isinstance(inner.operator, cst.Multiply) and values == numbers:
            yield node, inner.left
