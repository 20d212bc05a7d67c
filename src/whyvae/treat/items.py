"""What a data set class of the user's gives for one example: the expression that `__getitem__` returns."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.roots import DEEPEST, data_named, is_class, iterated, passed_on
from whyvae.treat.sites import Sites, Spot, elements
from whyvae.treat.source import Source, dotted


def item(sites: Sites) -> Spot | None:
    """The example in what the data set returns, beside labels or alone; None where no such class, or no such place, is found."""
    for spot in data_named(sites):
        call = _made_by_class(spot, 0)
        rows = [] if call is None else list(_returned(call))
        if len(rows) != 1:
            continue
        parts, at = elements(rows[0].node), _position(spot.source, dotted(spot.node))
        if len(parts) == 1:
            return Spot(rows[0].source, parts[0])
        if at is not None and at < len(parts):
            return Spot(rows[0].source, parts[at])
    return None


def _made_by_class(spot: Spot, depth: int) -> Spot | None:
    """The call of a class, back from what a loop goes over through names, loaders and splits."""
    node, source = spot.node, spot.source
    if depth > DEEPEST:
        return None
    if isinstance(node, cst.Subscript):
        return _made_by_class(Spot(source, node.value), depth + 1)
    if isinstance(node, cst.Call):
        inner = passed_on(node)
        if inner is not None:
            return _made_by_class(Spot(source, inner), depth + 1)
        return spot if is_class(node) else None
    if not isinstance(node, cst.Name | cst.Attribute):
        return None
    sources = [*reversed(list(bindings(spot))), *(Spot(source, n) for n in iterated(source, node))]
    return next((found for s in sources if (found := _made_by_class(s, depth + 1)) is not None), None)


def _returned(call: Spot) -> Iterator[Spot]:
    name = dotted(call.node.func).split(".")[-1] if isinstance(call.node, cst.Call) else ""
    for file in call.source.family():
        for function in file.nodes(cst.FunctionDef):
            owner = file.enclosing(function, cst.ClassDef)
            if function.name.value == "__getitem__" and owner is not None and owner.name.value == name:
                yield from (Spot(file, r.value) for r in file.nodes(cst.Return, function) if r.value is not None)


def _position(source: Source, name: str) -> int | None:
    """Which of the loop's variables `name` is, in the innermost row that holds it."""
    for loop in source.nodes(cst.For):
        rows = [
            elements(loop.target),
            *(elements(e) for e in elements(loop.target) if isinstance(e, cst.Tuple | cst.List)),
        ]
        for row in reversed(rows):
            named = [dotted(e) for e in row]
            if name in named:
                return named.index(name)
    return None
