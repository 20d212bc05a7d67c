"""Where the user's training data is made, and by which names it goes before training."""

from __future__ import annotations

import re
from collections.abc import Iterator

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.program import loops, returned
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, arguments, elements
from whyvae.treat.source import Source, dotted, name_called
from whyvae.watch.tape import Op

FIRST = {"DataLoader", "TensorDataset", "Subset", "iter", "next", "tqdm", "split", "list", "cycle", "random_split",
         "train_test_split"}  # fmt: skip
METHODS = {"split", "to", "cuda", "index_select", "clone", "cpu", "chunk", "unbind", "contiguous"}
CONVERTING = {"tensor", "as_tensor", "from_numpy", "FloatTensor", "Tensor", "asarray"}
DEEPEST = 12


def data_root(sites: Sites) -> tuple[Spot, str]:
    """(the expression the training data comes from, the name it is given; "" for none)."""
    for spot in data_named(sites):
        found = _followed(spot.source, spot.node, "", 0)
        if found is not None:
            return found
    raise NoEdit("the place where the training data is made was not found")


def data_names(sites: Sites) -> tuple[cst.CSTNode, list[str]]:
    """(The last statement that gives the training data a name before training, the names it assigns)."""
    source = sites.script()
    for spot in data_named(sites):
        found = _last_named(source, spot.node, 0) if spot.source is source else None
        if found is not None:
            return found
    raise NoEdit("the training data has no name before training")


def _last_named(source: Source, node: cst.CSTNode, depth: int) -> tuple[cst.CSTNode, list[str]] | None:
    """Back from where the data is read, through loops, loaders and indices, to an assignment outside of any loop."""
    if depth > DEEPEST:
        return None
    if isinstance(node, cst.Subscript):
        return _last_named(source, node.value, depth + 1)
    if isinstance(node, cst.Call):
        passed = passed_on(node)
        inner = passed if passed is not None else node.args[0].value if is_class(node) and node.args else None
        return None if inner is None else _last_named(source, inner, depth + 1)
    if not isinstance(node, cst.Name):
        return None
    here = [s.node for s in bindings(Spot(source, node)) if s.source is source]
    for value in (*reversed(here), *iterated(source, node)):
        statement = source.statement(value)
        inside = isinstance(value, cst.Call) and (passed_on(value) is not None or is_class(value))
        if isinstance(statement, cst.Assign) and not loops(source, statement) and not inside:
            return statement, [dotted(e) for e in elements(statement.targets[0].target)]
        found = _last_named(source, value, depth + 1)
        if found is not None:
            return found
    return None


def data_named(sites: Sites) -> Iterator[Spot]:
    """What the data is called, in the outermost function first."""
    subject = sites.subject
    wanted = {subject.lineage.data, subject.lineage.target} - {None, -1}
    slots = subject.tape.slots
    wanted |= {s for s in subject.deps.ancestors(wanted) if slots[s].external and slots[s].dtype.is_floating_point}
    found: list[tuple[int, Spot]] = []
    for op in subject.tape.ops:
        for value, spot in sites.operands(op):
            if getattr(value, "slot", None) in wanted:
                found.append((len(op.frames), spot))
        for depth in range(1, len(op.frames)):
            found += [(len(op.frames) - depth, s) for s in _given(sites, op, depth, wanted)]
    yield from (spot for _, spot in sorted(found, key=lambda pair: pair[0]))
    yield from _handed_over(sites.script())


def _handed_over(source: Source) -> Iterator[Spot]:
    """What loaders are made of, those that shuffle first, and what is given to `fit`: a framework may call the step."""
    calls = [call for call in source.nodes(cst.Call) if call.args]
    loaders = [call for call in calls if dotted(call.func).split(".")[-1] == "DataLoader"]
    loaders.sort(key=lambda call: "shuffle=True" not in source.code(call).replace(" ", ""))
    fits = [call for call in calls if isinstance(call.func, cst.Attribute) and call.func.attr.value == "fit"]
    yield from (Spot(source, call) for call in loaders)
    yield from (Spot(source, a.value) for call in fits for a in call.args if isinstance(a.value, cst.Name))


def _given(sites: Sites, op: Op, depth: int, wanted: set[int]) -> Iterator[Spot]:
    """Arguments of the call `depth` frames out that hold the data."""
    call, inner = sites.of(op, depth), sites.of_frame(op.frames[depth - 1])
    function = inner.source.enclosing(inner.node, cst.FunctionDef) if inner else None
    if call is None or not isinstance(call.node, cst.Call) or function is None:
        return
    names = {n for s, n in sites.names_of(op.frames[depth - 1].code).items() if s in wanted}
    for parameter, value in arguments(function, call.node).items():
        if parameter in names:
            yield Spot(call.source, value)


def _followed(source: Source, node: cst.CSTNode, name: str, depth: int) -> tuple[Spot, str] | None:
    if depth > DEEPEST:
        return None
    if isinstance(node, cst.Name | cst.Attribute):
        gone_over = [Spot(source, n) for n in iterated(source, node)]
        for value in (*reversed(list(bindings(Spot(source, node)))), *gone_over):  # the last one counts
            found = _followed(value.source, value.node, dotted(node) if value.source is source else "", depth + 1)
            if found is not None:
                return found
        return None
    if isinstance(node, cst.Subscript):
        return _followed(source, node.value, name, depth + 1)
    if isinstance(node, cst.Call) and (passed := passed_on(node)) is not None:
        kept = name if isinstance(node.func, cst.Attribute) and passed is node.func.value else ""  # a loader is no data
        return _followed(source, passed, kept, depth + 1)
    if isinstance(node, cst.Call) and (inner := _converted(node)) is not None:
        found = _followed(source, inner, name, depth + 1)  # where training and test data are one still
        return found if found is not None else (Spot(source, node), name)
    if isinstance(node, cst.Call) and is_class(node):
        return None  # a data set of the user's own
    if isinstance(node, cst.Call) and (loader := _loader_of(Spot(source, node))) is not None:
        return _followed(loader.source, loader.node, "", depth + 1)
    if isinstance(node, cst.Call) and _yields(Spot(source, node)):
        return None
    return (Spot(source, node), name) if isinstance(node, cst.Call | cst.BinaryOperation) else None


def _loader_of(call: Spot) -> Spot | None:
    """The loader or data set that a function of the user's gives back: it is what that holds which is data."""
    for row in returned(call):
        values: list[Spot] = [row, *(bindings(row) if isinstance(row.node, cst.Name) else ())]
        for value in values:
            if isinstance(value.node, cst.Call) and (passed_on(value.node) is not None or is_class(value.node)):
                return value
    return None


def _yields(call: Spot) -> bool:
    """A function of the user's that gives batch after batch: nothing can be done to all of them at once."""
    name = dotted(call.node.func).split(".")[-1] if isinstance(call.node, cst.Call) else ""
    return any(
        True for file in call.source.family() for f in file.nodes(cst.FunctionDef) if f.name.value == name
        for _ in file.nodes(cst.Yield, f)
    )  # fmt: skip


def is_class(call: cst.Call) -> bool:
    name = dotted(call.func).split(".")[-1]
    return name[:1].isupper() and not name.endswith("Tensor")


def siblings(spot: Spot) -> list[Spot]:
    """Other values of names that are made by the same function of the user's, or cut from the same whole, as a test set is
    beside a training set.
    """
    source, name = spot.source, dotted(spot.node.func) if isinstance(spot.node, cst.Call) else ""
    own, whole = {f.name.value for f in source.nodes(cst.FunctionDef)}, _cut_from(spot.node)
    if loops(source, spot.node):
        return []
    made = [v for a in source.nodes(cst.Assign) for v in elements(a.value) if v is not spot.node]
    if name.split(".")[-1] not in own and not whole:
        return [Spot(source, v) for v in made if _of_one_whole(source, spot.node, v)]
    alike = [v for v in made if isinstance(v, cst.Call) and dotted(v.func) == name]
    return [Spot(source, v) for v in alike if not whole or _cut_from(v) == whole]


def _of_one_whole(source: Source, one: cst.CSTNode, other: cst.CSTNode) -> bool:
    """`torch.tensor(train - mean)` and `torch.tensor(test - mean)`: one expression of two parts of one array."""
    first, second = ([n.value for n in source.nodes(cst.Name, node)] for node in (one, other))
    differing = {(a, b) for a, b in zip(first, second, strict=False) if a != b}
    if type(one) is not type(other) or len(first) != len(second) or len(differing) != 1:
        return False
    ((a, b),) = differing
    if re.sub(rf"\b{a}\b", b, source.code(one)) != source.code(other):
        return False
    wholes = {_whole_of(source, node, name) for node, name in ((one, a), (other, b))}
    return len(wholes) == 1 and "" not in wholes


def _whole_of(source: Source, within: cst.CSTNode, name: str) -> str:
    """`table` of a name given `table[:800]`; "" for anything else."""
    read = next(n for n in source.nodes(cst.Name, within) if n.value == name)
    given = [s.node for s in bindings(Spot(source, read)) if s.source is source]
    cut = [dotted(v.value) for v in given if isinstance(v, cst.Subscript)]
    return cut[-1] if cut and len(cut) == len(given) else ""


def _cut_from(node: cst.CSTNode) -> str:
    """`x` of `torch.tensor(x[:800])`; "" for anything else."""
    inner = _converted(node) if isinstance(node, cst.Call) else None
    return dotted(inner.value) if isinstance(inner, cst.Subscript) else ""


def _converted(call: cst.Call) -> cst.CSTNode | None:
    """`x[:800]` of `torch.tensor(x[:800])`, where that has a name."""
    if dotted(call.func).split(".")[-1] not in CONVERTING or not call.args:
        return None
    inner = call.args[0].value
    named = inner.value if isinstance(inner, cst.Subscript) else inner
    return inner if isinstance(named, cst.Name) else None


def passed_on(call: cst.Call) -> cst.CSTNode | None:
    """What a call hands on unchanged, but for its order."""
    name = name_called(call)
    root = dotted(call.func).split(".")[0]
    if isinstance(call.func, cst.Attribute) and name in METHODS and root not in {"torch", "F", "np"}:
        return call.func.value
    if (name in FIRST or name in {"enumerate", "zip"}) and call.args:
        return call.args[0].value
    return None


def iterated(source: Source, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """`for x in data`: what a loop's variable goes over; `x, y = random_split(data)`: what it is a part of."""
    name = dotted(node)
    for assigned in source.nodes(cst.Assign):
        parts = [dotted(e) for t in assigned.targets if isinstance(t.target, cst.Tuple) for e in elements(t.target)]
        if name in parts and isinstance(assigned.value, cst.Call) and passed_on(assigned.value) is not None:
            yield assigned.value
    for loop in source.nodes(cst.For):
        names = {dotted(e) for t in elements(loop.target) for e in elements(t)}
        if name in names:
            yield loop.iter
