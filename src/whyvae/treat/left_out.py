"""Parameters that are plain tensors and are not in the list that is stepped: they are added by their names."""

from __future__ import annotations

import libcst as cst

from whyvae.probes.wiring import moved_parameters
from whyvae.treat.bindings import bindings
from whyvae.treat.by_hand import steps
from whyvae.treat.optimisers import makers
from whyvae.treat.program import loops
from whyvae.treat.sites import Sites, Spot, arguments, elements
from whyvae.treat.source import Source, dotted
from whyvae.watch.tape import Op, Ref


def add_tensors(sites: Sites) -> bool:
    """Collects the edit: `[w1, b1]` -> `[w1, b1, w2, b2]`; `for layer in enc` -> `for layer in enc + dec`."""
    source = sites.script()
    left, stepped = unstepped(sites)
    missing, known = list(_names(sites, source, left).values()), list(_names(sites, source, stepped).values())
    places = [Spot(source, made.args[0].value) for made in makers(source)] or _gone_through(source)
    if not left or len(missing) != len(left) or len(places) != 1:
        return False
    given = _list(places[0])
    if all("[" not in name for name in missing):
        return _appended(source, given, missing)
    rows = list(dict.fromkeys(name.partition("[")[0] for name in missing))
    had = {name.partition("[")[0] for name in known if "[" in name}
    if had.intersection(rows):
        return False  # a part of a list is stepped: which part, the user knows
    for part in source.nodes(cst.CompFor, given):
        if dotted(part.iter) in had:
            source.replace(part.iter, " + ".join([dotted(part.iter), *rows]))
            return True
    return False


def unstepped(sites: Sites) -> tuple[set[int], set[int]]:
    """Slots of parameters that nobody steps, and of those that are; without an optimiser: that did not move, and did."""
    subject = sites.subject
    wanted = subject.deps.ancestors(subject.tape.roots)
    slots = [s for s in subject.tape.slots if s.trainable and s.index in wanted]
    if subject.optimizers:
        keys = {key for optimizer in subject.optimizers for key in optimizer.parameters}
        left = {s.index for s in slots if id(s.value) not in keys}
    else:
        moved = moved_parameters(subject)
        left = {s.index for s in slots if moved.get(id(s.value)) is False}
    return left, {s.index for s in slots} - left


def _names(sites: Sites, source: Source, slots: set[int]) -> dict[int, str]:
    """What tensors are called where the script makes them: `w2`, `dec[0]`; those that have such a name."""
    found: dict[int, str] = {}
    for op in sites.subject.tape.ops:
        for slot in slots.intersection(op.reads) - set(found):
            spot = next((s for v, s in sites.operands(op) if isinstance(v, Ref) and v.slot == slot), None)
            name = "" if spot is None else _outside(sites, source, op, spot, 0)
            if name:
                found[slot] = name
    return {slot: found[slot] for slot in sorted(found)}


def _outside(sites: Sites, source: Source, op: Op, spot: Spot, depth: int) -> str:
    """An expression of a function, in the words of the script: `wb[0]` of `affine(x, dec[1])` is `dec[1][0]`."""
    root = spot.node
    while isinstance(root, cst.Subscript):
        root = root.value
    if spot.source is not source or not isinstance(root, cst.Name):
        return ""
    function = source.enclosing(root, cst.FunctionDef)
    if function is None or root.value not in {p.name.value for p in function.params.params}:
        outer = [s for s in bindings(Spot(source, root)) if source.enclosing(s.node, cst.FunctionDef) is None]
        return spot.code if outer or _unpacked(source, root.value) else ""
    call = sites.of(op, depth + 1)
    given = (
        arguments(function, call.node).get(root.value) if call is not None and isinstance(call.node, cst.Call) else None
    )
    if call is None or given is None:
        return ""
    name = _outside(sites, source, op, Spot(call.source, given), depth + 1)
    return name + spot.code[len(root.value) :] if name else ""


def _unpacked(source: Source, name: str) -> bool:
    """`w1, b1 = layer(8, 4)` of the script itself."""
    return any(
        source.enclosing(a, cst.FunctionDef) is None and name in {dotted(e) for t in a.targets for e in elements(t.target)}
        for a in source.nodes(cst.Assign)
    )  # fmt: skip


def _gone_through(source: Source) -> list[Spot]:
    """The list that steps taken by hand go through: the one of `for p, m in zip(weights, moments)` that gives the `p`."""
    found: dict[str, Spot] = {}
    for step in steps(source):
        for loop in loops(source, step.statement)[:1]:
            places = elements(loop.target) if isinstance(loop, cst.For) else []
            given = [loop.iter] if isinstance(loop, cst.For) else []
            if given and isinstance(given[0], cst.Call) and dotted(given[0].func) == "zip":
                given = [a.value for a in given[0].args]
            for place, value in zip(places, given, strict=False):
                if dotted(place) == step.moved:
                    found[source.code(value)] = Spot(source, value)
    return list(found.values())


def _list(spot: Spot) -> cst.CSTNode:
    """The list itself, where it has a name."""
    found = [s.node for s in bindings(spot) if s.source is spot.source] if isinstance(spot.node, cst.Name) else []
    return found[0] if len(found) == 1 else spot.node


def _appended(source: Source, given: cst.CSTNode, missing: list[str]) -> bool:
    text = ", ".join(missing)
    if isinstance(given, cst.List) and given.elements and all(isinstance(e, cst.Element) for e in given.elements):
        last = given.elements[-1].value
        if isinstance(last, cst.Dict):
            return False  # groups with settings of their own
        behind = source.offsets(last)[1]
        source.splice(behind, behind, f", {text}")
        return True
    if isinstance(given, cst.List | cst.BinaryOperation | cst.ListComp):
        end = source.offsets(given)[1]
        source.splice(end, end, f" + [{text}]")
        return True
    return False
