"""What stands around the recorded step in the user's program: where its data, modules and optimisers come from."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.optimisers import is_maker
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, elements
from whyvae.treat.source import Source, dotted, name_called
from whyvae.watch.tape import Op, Place

DEEPEST = 12


# ---------------------------------------------------------------------------------------- statements
def calls(source: Source, method: str, within: cst.CSTNode | None = None) -> Iterator[cst.Call]:
    """Calls of a method, or of a function of that name."""
    for node in source.nodes(cst.Call, within):
        if name_called(node) == method:
            yield node


def called_at(sites: Sites, place: Place | None, method: str) -> Spot:
    """The call of a method on a line the watcher knows, or the only one of the file."""
    if place is None:
        raise NoEdit(f"no call of `{method}` was seen in your code")
    source = sites.source(place.file)
    every = list(calls(source, method))
    here = [c for c in every if source.line(c) <= place.line <= source.end_line(c)] or every
    if len(here) > 1:  # `optimizer.step(); schedule.step()`
        here = [c for c in here if _of_optimiser(source, c)] or here
    if len(here) != 1:
        raise NoEdit(f"the call of `{method}` was not found on line {place.line}", where=f"{place.file}:{place.line}")
    return Spot(source, here[0])


def _of_optimiser(source: Source, call: cst.Call) -> bool:
    made = built(Spot(source, call.func.value)) if isinstance(call.func, cst.Attribute) else None
    return made is not None and isinstance(made.node, cst.Call) and is_maker(made.node)


def receiver(call: cst.CSTNode) -> cst.BaseExpression:
    """`optimizer` of `optimizer.step()`."""
    if isinstance(call, cst.Call) and isinstance(call.func, cst.Attribute):
        return call.func.value
    raise NoEdit("it is called without an object")


def backward(sites: Sites) -> Spot:
    return called_at(sites, sites.subject.main.backward_at, "backward")


def loops(source: Source, node: cst.CSTNode) -> list[cst.CSTNode]:
    """The loops a node stands in, innermost first."""
    return [n for n in source.above(node) if isinstance(n, cst.For | cst.While) and n is not node]


# ---------------------------------------------------------------------------------------- objects
def built(spot: Spot) -> Spot | None:
    """The expression that made the object an expression names: `nn.Sequential(...)` of `self.decoder`."""
    for _ in range(DEEPEST):
        found = list(bindings(spot))
        if len(found) != 1:
            return None
        node = found[0].node
        spot = Spot(found[0].source, node.value if isinstance(node, cst.NamedExpr) else node)
        if isinstance(spot.node, cst.Call):
            return spot
    return None


def returned(call: Spot) -> Iterator[Spot]:
    """What a function of the user's gives back, or an object that is called: `beta(step)`, `self.schedule(step)`."""
    if not isinstance(call.node, cst.Call):
        return
    name = dotted(call.node.func).split(".")[-1]
    kind = built(Spot(call.source, call.node.func))
    made = dotted(kind.node.func).split(".")[-1] if kind is not None and isinstance(kind.node, cst.Call) else ""
    for file in call.source.family():
        for function in file.nodes((cst.FunctionDef, cst.Assign)):
            if isinstance(function, cst.Assign):
                of_name = any(dotted(t.target).split(".")[-1] == name for t in function.targets)
                if of_name and isinstance(function.value, cst.Lambda):
                    yield Spot(file, function.value.body)
                continue
            owner = file.enclosing(function, cst.ClassDef)
            called = function.name.value == "__call__" and owner is not None and owner.name.value == made
            if function.name.value == name or called:
                yield from _results(file, function)


def property_of(spot: Spot) -> Iterator[Spot]:
    """What an attribute gives back that is a property of a class of the user's: `annealer.beta`."""
    if not isinstance(spot.node, cst.Attribute):
        return
    for file in spot.source.family():
        for function in file.nodes(cst.FunctionDef):
            decorated = any(dotted(d.decorator).split(".")[-1].endswith("property") for d in function.decorators)
            if decorated and function.name.value == spot.node.attr.value:
                yield from _results(file, function)


def _results(file: Source, function: cst.FunctionDef) -> Iterator[Spot]:
    return (Spot(file, r.value) for r in file.nodes(cst.Return, function) if r.value is not None)


def written_out(spot: Spot) -> Spot | None:
    """What `built` finds; of a function of the user's that is called but there, what it returns: its layers are its own."""
    made = built(spot)
    if made is None or not isinstance(made.node, cst.Call):
        return made
    name, rows = dotted(made.node.func), list(returned(made))
    once = sum(
        1 for file in made.source.family() for c in file.nodes(cst.Call) if dotted(c.func).split(".")[-1] == name
    )
    if len(rows) != 1 or once != 1:
        return made
    return rows[0] if isinstance(rows[0].node, cst.Call) else built(rows[0])


def unpacked(spot: Spot) -> Iterator[Spot]:
    """What a name has from a function that gives back several things: the `kl` of `return rec, kl`."""
    source, name = spot.source, spot.code
    scope = source.enclosing(spot.node, cst.FunctionDef)
    for assign in source.nodes(cst.Assign):
        names = [dotted(e) for e in elements(assign.targets[0].target)]
        if len(names) < 2 or name not in names or source.enclosing(assign, cst.FunctionDef) is not scope:
            continue
        for row in returned(Spot(source, assign.value)):
            given = elements(row.node)
            if len(given) == len(names):
                yield Spot(row.source, given[names.index(name)])


def called(sites: Sites, op: Op) -> Spot | None:
    """`self.decoder` of the expression `self.decoder(z)` that called `op`."""
    spot = sites.of(op)
    if spot is None or not isinstance(spot.node, cst.Call):
        return None
    return Spot(spot.source, spot.node.func)
