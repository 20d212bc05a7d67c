"""Inputs and targets that are shuffled apart are drawn together: from one loader in place of two, by the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.operands import imported
from whyvae.treat.program import calls
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, elements
from whyvae.treat.source import Source, dotted

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = """\
loader = DataLoader(TensorDataset(noisy, clean), batch_size=100, shuffle=True)
for x, target in loader:
    ...
"""
DRAWS = ("randint", "randperm", "permutation", "choice", "integers")


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    if not any(_one_loader(source) or _one_draw(source) for source in sites.family):
        raise NoEdit("where inputs and targets are drawn apart was not found", SNIPPET)
    return sites.result()


# ---------------------------------------------------------------------------------------- two loaders
def _one_loader(source: Source) -> bool:
    """`for (a,), (b,) in zip(first, second)` -> `for a, b in first`, with both tensors in the first's data set."""
    for loop in source.nodes((cst.For, cst.CompFor)):
        for call in calls(source, "zip", loop.iter):
            pair = _pair(loop, call)
            made = [_loader(Spot(source, a.value)) for a in call.args]
            if pair is None or len(made) != 2 or any(m is None for m in made):
                continue
            if _joined(source, loop, call, pair, [m for m in made if m is not None]):
                return True
    return False


def _pair(loop: cst.For | cst.CompFor, call: cst.Call) -> cst.Tuple | None:
    """What the loop gives the two names to: all of its target, or the part behind `enumerate`'s number."""
    target = loop.target if loop.iter is call else elements(loop.target)[-1]
    return target if isinstance(target, cst.Tuple) and len(target.elements) == 2 else None


def _loader(spot: Spot) -> Spot | None:
    """`DataLoader(..., shuffle=True)` that a name stands for, in the same file."""
    found = [b for b in bindings(spot) if b.source is spot.source]
    node = found[0].node if len(found) == 1 else None
    if not isinstance(node, cst.Call) or dotted(node.func).split(".")[-1] != "DataLoader":
        return None
    shuffled = any(
        a.keyword is not None and a.keyword.value == "shuffle" and dotted(a.value) == "True" for a in node.args
    )
    return found[0] if shuffled else None


def _joined(source: Source, loop: cst.CSTNode, call: cst.Call, pair: cst.Tuple, made: list[Spot]) -> bool:
    held = [_held(source, spot, element.value) for spot, element in zip(made, pair.elements, strict=True)]
    settings = [[source.code(a) for a in spot.node.args[1:]] for spot in made]  # type: ignore[attr-defined]
    second = source.statement(made[1].node)
    known = [h for h in held if h is not None]
    if len(known) != len(held) or known[0].wrapped != known[1].wrapped or settings[0] != settings[1]:
        return False
    if not isinstance(second, cst.Assign) or any(_used(source, a.value, loop) > 1 for a in call.args):
        return False
    first, other = known
    if first.wrapped:
        behind = source.offsets(first.tensor)[1]
        source.splice(behind, behind, f", {source.code(other.tensor)}")
    else:
        kind = "TensorDataset" if "TensorDataset" in imported(source) else "torch.utils.data.TensorDataset"
        source.replace(first.tensor, f"{kind}({source.code(first.tensor)}, {source.code(other.tensor)})")
    source.remove(second)
    source.replace(call, source.code(call.args[0].value))
    source.splice(*source.offsets(pair), f"{first.name}, {other.name}")
    return True


@dataclass(frozen=True, eq=False)
class _Held:
    """What a loader holds (in a `TensorDataset`, or as it is), and what the loop calls a batch of it."""

    tensor: cst.CSTNode
    wrapped: bool
    name: str


def _held(source: Source, loader: Spot, given: cst.CSTNode) -> _Held | None:
    data = loader.node.args[0].value  # type: ignore[attr-defined]
    names = elements(given)
    if len(names) != 1 or not isinstance(names[0], cst.Name):
        return None
    name = names[0].value
    if isinstance(data, cst.Call) and dotted(data.func).split(".")[-1] == "TensorDataset":
        return _Held(data.args[0].value, True, name) if len(data.args) == 1 and isinstance(given, cst.Tuple) else None
    return _Held(data, False, name) if isinstance(given, cst.Name) and _is_tensor(Spot(source, data)) else None


def _is_tensor(spot: Spot) -> bool:
    """Computed, or made by a function of torch: no data set of the user's own."""
    if isinstance(spot.node, cst.Subscript):
        return _is_tensor(Spot(spot.source, spot.node.value))
    found = list(bindings(spot)) if isinstance(spot.node, cst.Name) else [spot]
    computed = (cst.BinaryOperation, cst.Subscript)
    return bool(found) and all(
        isinstance(b.node, computed) or (isinstance(b.node, cst.Call) and dotted(b.node.func).startswith("torch."))
        for b in found
    )


def _used(source: Source, name: cst.CSTNode, loop: cst.CSTNode) -> int:
    """How often a loader is read, where it is known; its length is another matter."""
    scope, text = source.enclosing(loop, cst.FunctionDef), source.code(name)
    return sum(
        1 for n in source.nodes((cst.Name, cst.Attribute))
        if source.code(n) == text and not isinstance(source.parent(n), cst.AssignTarget)
        and (scope is None or source.enclosing(n, cst.FunctionDef) is scope) and not _measured(source, n)
    )  # fmt: skip


def _measured(source: Source, node: cst.CSTNode) -> bool:
    argument = source.parent(node)
    call = source.parent(argument) if isinstance(argument, cst.Arg) else None
    return isinstance(call, cst.Call) and dotted(call.func) == "len"


# ---------------------------------------------------------------------------------------- two draws
def _one_draw(source: Source) -> bool:
    """`x, y = a[torch.randint(9, (3,))], b[torch.randint(9, (3,))]` -> `rows = torch.randint(9, (3,))` before it."""
    drawn = list(_drawn(source))
    for i, first in enumerate(drawn):
        same = [d for d in drawn[i + 1 :] if _alike(source, first, d)]
        if len(same) != 1:
            continue
        name = next(n for n in ("rows", "index", "drawn_rows") if not any(x.value == n for x in source.nodes(cst.Name)))
        source.insert_before(first, f"{name} = {source.code(first)}")
        for place in (first, same[0]):
            source.replace(place, name)
        return True
    return False


def _drawn(source: Source) -> Iterator[cst.CSTNode]:
    """Random rows that something is indexed by."""
    for item in source.nodes(cst.Subscript):
        index = item.slice[0].slice if len(item.slice) == 1 else None
        value = index.value if isinstance(index, cst.Index) else None
        if value is not None and any(True for draw in DRAWS for _ in calls(source, draw, value)):
            yield value


def _alike(source: Source, first: cst.CSTNode, second: cst.CSTNode) -> bool:
    """The same words, in the same block."""
    blocks = [source.enclosing(n, (cst.IndentedBlock, cst.Module)) for n in (first, second)]
    return source.code(first) == source.code(second) and blocks[0] is blocks[1]
