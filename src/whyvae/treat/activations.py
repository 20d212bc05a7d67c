"""Takes an activation out of the user's source, wherever it is written."""

from __future__ import annotations

import libcst as cst

from whyvae.probes.output import ACTIVATIONS
from whyvae.treat.program import built
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import Source, dotted
from whyvae.watch.dependencies import Dependencies
from whyvae.watch.tape import Op, Ref

FENCES = {*ACTIVATIONS, "clamp", "clamp_", "clip", "clamp_min", "clamp_max", "prelu", "log_sigmoid", "logsigmoid"}
PAIR = 2  # functions: a layer and the activation behind it


def after_last_layer(sites: Sites, slot: int) -> list[Op]:
    """The activations between a tensor and the last parametrised function before it, in the order they are applied."""
    deps = sites.subject.deps
    found: list[Op] = []
    while (position := deps.producer.get(slot)) is not None:
        op = sites.subject.tape.ops[position]
        sources = _first([r for r in op.reads if r not in deps.parametric], deps)
        if deps.is_mixing(op) or len(sources) != 1:
            break
        if op.name in FENCES:
            found.insert(0, op)
        slot = sources[0]
    return found


def _first(sources: list[int], deps: Dependencies) -> list[int]:
    """Of several, the one that the others are made of: logits, where a distribution takes the logarithm of their sum off."""
    if len(sources) < 2:
        return sources
    made = {s: deps.descendants([s]) | {s} for s in sources}
    return [s for s in dict.fromkeys(sources) if made[s].issuperset(sources)] or sources


def remove(sites: Sites, op: Op) -> None:
    """Collects the edit that leaves an activation out.

    Raises:
        NoEdit: it is not written in a place of its own.
    """
    spot = sites.of(op)
    if spot is None or not isinstance(spot.node, cst.Call):
        raise NoEdit("the activation is applied in code that is not yours")
    inner = next((s for value, s in sites.operands(op) if isinstance(value, Ref)), None)
    if inner is not None and _name(spot.node) == op.name:
        spot.source.replace(spot.node, inner.code)
        return
    layer = built(Spot(spot.source, spot.node.func))
    if layer is not None and _is(layer.node, op) and spot.node.args:
        spot.source.replace(spot.node, spot.source.code(spot.node.args[0].value))
    elif layer is not None and _name(layer.node) == "Sequential" and _cut(layer, op):
        return
    elif layer is not None and (layers := _blocks(sites, spot, op)):
        rest = "[0]" if layers == PAIR else "[:-1]"
        spot.source.replace(spot.node.func, f"{spot.source.code(spot.node.func)}{rest}")
    else:
        _identity(spot.source, op)


def _name(node: cst.CSTNode) -> str:
    return dotted(node.func).split(".")[-1] or _method(node) if isinstance(node, cst.Call) else ""


def _method(call: cst.Call) -> str:
    return str(call.func.attr.value) if isinstance(call.func, cst.Attribute) else ""


def _is(node: cst.CSTNode, op: Op) -> bool:
    """`nn.Sigmoid()` is what calls `sigmoid`."""
    return _name(node).lower() == op.name.rstrip("_").replace("_", "") and _name(node)[:1].isupper()


def _cut(layer: Spot, op: Op) -> bool:
    """The layer out of `nn.Sequential(...)`, if it is written there."""
    assert isinstance(layer.node, cst.Call)  # noqa: S101 - its caller looked
    args = list(layer.node.args)
    at = next((i for i in reversed(range(len(args))) if _is(args[i].value, op)), None)
    if at is None:
        return False
    _taken_out(layer.source, args, at)
    return True


def _taken_out(source: Source, args: list[cst.Arg], at: int) -> None:
    if at > 0:
        source.cut(args[at - 1], args[at])
    else:
        _to_identity(source, args[at].value)


def _blocks(sites: Sites, spot: Spot, op: Op) -> int:
    """How many functions the call stands for, where it is a row that a helper of the user's builds (`dense(8, 4)(h)`) and this
    activation is the last of it, behind a layer; 0 where it is not.
    """
    deps = sites.subject.deps
    same = [o for o in sites.subject.tape.ops if o.frames and op.frames and o.frames[0] == op.frames[0]]
    here = [o for o in same if not deps.parametric.issuperset(o.outs)]  # but for what is done to weights alone
    made = built(Spot(spot.source, spot.node.func)) if isinstance(spot.node, cst.Call) else None
    own = {f.name.value: f for f in spot.source.nodes(cst.FunctionDef)}
    function = own.get(_name(made.node)) if made else None
    sequential = function is not None and any(_name(c) == "Sequential" for c in spot.source.nodes(cst.Call, function))
    last = len(here) >= PAIR and deps.is_mixing(here[-2]) and here[-1] is op
    return len(here) if sequential and last else 0


def _identity(source: Source, op: Op) -> None:
    """The only such layer of the file goes: out of the `Sequential` it is written in, else `nn.Identity()` takes its place."""
    every = [n for n in source.nodes(cst.Call) if _is(n, op)]
    named = [n for n in source.nodes(cst.Name) if every and n.value == _name(every[0])]  # also handed on: `act=nn.GELU`
    if len(every) != 1 or len(named) != 1:
        raise NoEdit(f"`{op.name}` is not written in a place of its own")
    argument = source.parent(every[0])
    row = source.parent(argument) if isinstance(argument, cst.Arg) else None
    if isinstance(argument, cst.Arg) and isinstance(row, cst.Call) and _name(row) == "Sequential":
        _taken_out(source, list(row.args), list(row.args).index(argument))
    else:
        _to_identity(source, every[0])


def _to_identity(source: Source, call: cst.CSTNode) -> None:
    assert isinstance(call, cst.Call)  # noqa: S101 - its callers looked
    text = source.code(call.func)
    source.replace(call, f"{text[: -len(_name(call))] or 'torch.nn.'}Identity()")
