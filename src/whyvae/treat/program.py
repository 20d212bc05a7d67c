"""What stands around the recorded step in the user's program: where its data, modules and optimisers come from."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, arguments, elements
from whyvae.treat.source import Source, dotted
from whyvae.watch.tape import Op, Place

FIRST = {"DataLoader", "TensorDataset", "Subset", "iter", "next", "tqdm", "split", "list", "cycle", "random_split",
         "train_test_split"}  # fmt: skip
METHODS = {"split", "to", "cuda", "index_select", "clone", "cpu", "chunk", "unbind", "contiguous"}
DEEPEST = 12


# ---------------------------------------------------------------------------------------- statements
def calls(source: Source, method: str, within: cst.CSTNode | None = None) -> Iterator[cst.Call]:
    """Calls of a method, or of a function of that name."""
    for node in source.nodes(cst.Call, within):
        name = node.func.attr.value if isinstance(node.func, cst.Attribute) else dotted(node.func)
        if name == method:
            yield node


def called_at(sites: Sites, place: Place | None, method: str) -> Spot:
    """The call of a method on a line the watcher knows, or the only one of the file."""
    if place is None:
        raise NoEdit(f"no call of `{method}` was seen in your code")
    source = sites.source(place.file)
    every = list(calls(source, method))
    here = [c for c in every if source.line(c) <= place.line <= source.end_line(c)] or every
    if len(here) != 1:
        raise NoEdit(f"the call of `{method}` was not found on line {place.line}", where=f"{place.file}:{place.line}")
    return Spot(source, here[0])


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
                yield from (Spot(file, r.value) for r in file.nodes(cst.Return, function) if r.value is not None)


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


# ---------------------------------------------------------------------------------------- data
def data_root(sites: Sites) -> tuple[Spot, str]:
    """(the expression the training data comes from, the name it is given; "" for none)."""
    for spot in _data_names(sites):
        found = _followed(spot.source, spot.node, "", 0)
        if found is not None:
            return found
    raise NoEdit("the place where the training data is made was not found")


def data_names(sites: Sites) -> tuple[cst.CSTNode, list[str]]:
    """(The last statement that gives the training data a name before training, the names it assigns)."""
    source = sites.script()
    for spot in _data_names(sites):
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
        passed = _passed_on(node)
        inner = passed if passed is not None else node.args[0].value if _is_class(node) and node.args else None
        return None if inner is None else _last_named(source, inner, depth + 1)
    if not isinstance(node, cst.Name):
        return None
    here = [s.node for s in bindings(Spot(source, node)) if s.source is source]
    for value in (*reversed(here), *_iterated(source, node)):
        statement = source.statement(value)
        inside = isinstance(value, cst.Call) and (_passed_on(value) is not None or _is_class(value))
        if isinstance(statement, cst.Assign) and not loops(source, statement) and not inside:
            return statement, [dotted(e) for e in elements(statement.targets[0].target)]
        found = _last_named(source, value, depth + 1)
        if found is not None:
            return found
    return None


def _data_names(sites: Sites) -> Iterator[Spot]:
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
        iterated = [Spot(source, n) for n in _iterated(source, node)]
        for value in (*reversed(list(bindings(Spot(source, node)))), *iterated):  # the last one counts
            found = _followed(value.source, value.node, dotted(node) if value.source is source else "", depth + 1)
            if found is not None:
                return found
        return None
    if isinstance(node, cst.Subscript):
        return _followed(source, node.value, name, depth + 1)
    if isinstance(node, cst.Call) and (passed := _passed_on(node)) is not None:
        return _followed(source, passed, name, depth + 1)
    if isinstance(node, cst.Call) and _is_class(node):
        return None  # a data set of the user's own
    return (Spot(source, node), name) if isinstance(node, cst.Call | cst.BinaryOperation) else None


def _is_class(call: cst.Call) -> bool:
    name = dotted(call.func).split(".")[-1]
    return name[:1].isupper() and not name.endswith("Tensor")


def siblings(spot: Spot) -> list[Spot]:
    """Other values of names that are made by the same function of the user's, as a test set is beside a training set."""
    source, name = spot.source, dotted(spot.node.func) if isinstance(spot.node, cst.Call) else ""
    own = {f.name.value for f in source.nodes(cst.FunctionDef)}
    if name not in own or loops(source, spot.node):
        return []
    made = [v for a in source.nodes(cst.Assign) for v in elements(a.value)]
    return [Spot(source, v) for v in made if v is not spot.node and isinstance(v, cst.Call) and dotted(v.func) == name]


def _passed_on(call: cst.Call) -> cst.CSTNode | None:
    """What a call hands on unchanged, but for its order."""
    name = call.func.attr.value if isinstance(call.func, cst.Attribute) else dotted(call.func)
    root = dotted(call.func).split(".")[0]
    if isinstance(call.func, cst.Attribute) and name in METHODS and root not in {"torch", "F", "np"}:
        return call.func.value
    if (name in FIRST or name in {"enumerate", "zip"}) and call.args:
        return call.args[0].value
    return None


def _iterated(source: Source, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """`for x in data`: what a loop's variable goes over."""
    name = dotted(node)
    for loop in source.nodes(cst.For):
        names = {dotted(e) for t in elements(loop.target) for e in elements(t)}
        if name in names:
            yield loop.iter
