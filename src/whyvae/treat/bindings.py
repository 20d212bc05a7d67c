"""The expressions a name, an attribute or an item may have its value from, in the user's files."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from whyvae.treat.files import imports
from whyvae.treat.operands import simple
from whyvae.treat.sites import Spot, arguments
from whyvae.treat.source import Source, dotted


def bindings(spot: Spot) -> Iterator[Spot]:
    """Of its own file; of others of the user's where there are none."""
    mine = list(_own(spot))
    yield from mine or elsewhere(spot)


def elsewhere(spot: Spot) -> Iterator[Spot]:
    """In the files that its own imports from, or that import from its own."""
    node, source = spot.node, spot.source
    if isinstance(node, cst.Name):
        yield from _imported_name(source, node.value)
    elif isinstance(node, cst.Attribute) and simple(node):
        root, _, name = dotted(node).rpartition(".")
        modules = [i.file for i in imports(source) if i.alias == root and not i.name]
        for other in source.family():
            if other.path in modules:
                yield from (Spot(other, v) for v in _assigned(other, name, None))
        yield from _settings(source, node.attr.value)
    elif (key := key_of_item(node)) is not None:
        yield from _settings(source, key)


def _imported_name(source: Source, name: str) -> Iterator[Spot]:
    for wanted in imports(source):
        for other in source.family() if wanted.alias in {name, "*"} and wanted.name else ():
            if other.path == wanted.file:
                yield from (Spot(other, v) for v in _assigned(other, name if wanted.name == "*" else wanted.name, None))


def _settings(source: Source, key: str) -> Iterator[Spot]:
    for other in source.family():
        if other is not source:
            yield from (Spot(other, v) for v in _of_setting(other, key, ""))


def _own(spot: Spot) -> Iterator[Spot]:
    source, node, text = spot.source, spot.node, spot.code
    if isinstance(node, cst.Name):
        yield from _of_name(source, node)
        return
    kept = list(_hyperparameter(source, node))
    if kept:
        yield from kept
        return
    found: Iterator[cst.CSTNode] = iter(())
    if isinstance(node, cst.Attribute) and simple(node):
        found = iter(list(_of_self(source, node)) or list(_of_setting(source, node.attr.value, dotted(node))))
    elif (key := key_of_item(node)) is not None:
        found = _of_setting(source, key, "")
    elif isinstance(node, cst.Call) and dotted(node.func) in {"float", "int"} and len(node.args) == 1:
        found = iter([node.args[0].value])
    for value in found:  # `Trainer(beta=cfg.beta)` tells nothing about `cfg.beta`
        if source.code(value) != text:
            yield Spot(source, value)


def key_of_item(node: cst.CSTNode) -> str | None:
    """`key` of `cfg["key"]`."""
    if not isinstance(node, cst.Subscript) or len(node.slice) != 1:
        return None
    index = node.slice[0].slice
    key = index.value if isinstance(index, cst.Index) else None
    return str(key.evaluated_value) if isinstance(key, cst.SimpleString) else None


def _of_name(source: Source, node: cst.Name) -> Iterator[Spot]:
    """Assignments in its function; else what the function is given, or takes by default; else those of the module."""
    function = source.enclosing(node, cst.FunctionDef)
    while isinstance(function, cst.FunctionDef):
        mine = list(_assigned(source, node.value, function))
        if mine:
            yield from (Spot(source, v) for v in mine)
            return
        parameter = _parameter(function, node.value)
        if parameter is not None:
            yield from _given(source, function, parameter)
            return
        function = source.enclosing(function, cst.FunctionDef)
    yield from (Spot(source, v) for v in _assigned(source, node.value, None))


def _assigned(source: Source, name: str, function: cst.FunctionDef | None) -> Iterator[cst.CSTNode]:
    for statement in source.nodes((cst.Assign, cst.AnnAssign, cst.NamedExpr, cst.AugAssign, cst.For)):
        if source.enclosing(statement, cst.FunctionDef) is not function:
            continue
        if isinstance(statement, cst.AugAssign | cst.For):
            if dotted(statement.target) == name:
                yield statement.target  # it changes: no literal
        elif isinstance(statement, cst.Assign):
            for target in statement.targets:
                yield from _unpacked(target.target, statement.value, name)
        elif dotted(statement.target) == name and statement.value is not None:
            yield statement.value


def _unpacked(target: cst.CSTNode, value: cst.CSTNode, name: str) -> Iterator[cst.CSTNode]:
    if isinstance(target, cst.Tuple) and isinstance(value, cst.Tuple) and len(target.elements) == len(value.elements):
        for t, v in zip(target.elements, value.elements, strict=True):
            yield from _unpacked(t.value, v.value, name)
    elif dotted(target) == name:
        yield value


def _parameter(function: cst.FunctionDef, name: str) -> cst.Param | None:
    every = (*function.params.posonly_params, *function.params.params, *function.params.kwonly_params)
    return next((p for p in every if p.name.value == name), None)


def _given(source: Source, function: cst.FunctionDef, parameter: cst.Param) -> Iterator[Spot]:
    """What calls of the function give; its default where a call gives nothing."""
    owner = source.enclosing(function, cst.ClassDef)
    calls = [Spot(source, c) for c in _calls(source, function, owner)]
    if not calls:
        others = [s for s in source.family() if s is not source]
        calls = [Spot(other, c) for other in others for c in _calls(other, function, owner)]
    left_out = not calls
    for call in calls:
        given = arguments(function, call.node).get(parameter.name.value)  # type: ignore[arg-type]
        left_out |= given is None
        if given is not None:
            yield Spot(call.source, given)
    if left_out and parameter.default is not None:
        yield Spot(source, parameter.default)


def _calls(source: Source, function: cst.FunctionDef, owner: cst.CSTNode | None) -> Iterator[cst.Call]:
    """Calls, in a file, of a function or of the objects of its class."""
    name = function.name.value
    names = {name}
    if name in {"__init__", "forward", "__call__"} and isinstance(owner, cst.ClassDef):
        names = {owner.name.value} if name == "__init__" else _instances(source, owner.name.value)
    yield from (c for c in source.nodes(cst.Call) if dotted(c.func).split(".")[-1] in names)


def _instances(source: Source, kind: str) -> set[str]:
    """Names that objects of a class of the file are given."""
    found = set()
    for statement in source.nodes(cst.Assign):
        if isinstance(statement, cst.Assign):
            made = _flat(statement.value)
            for target in statement.targets:
                for t, v in zip(_flat(target.target), made, strict=False):
                    if isinstance(v, cst.Call) and dotted(v.func) == kind:
                        found.add(dotted(t).split(".")[-1])
    return found


def _flat(node: cst.CSTNode) -> list[cst.CSTNode]:
    return [e.value for e in node.elements] if isinstance(node, cst.Tuple) else [node]


def _of_setting(source: Source, key: str, full: str) -> Iterator[cst.CSTNode]:
    """`cfg.key`, `self.key`, `cfg["key"]`: class bodies, keywords, attributes, dictionaries, options of argparse."""
    for node in source.nodes((cst.AnnAssign, cst.Assign, cst.Arg, cst.DictElement, cst.Call)):
        if isinstance(node, cst.Assign):
            yield from _attribute(source, node, key, full)
        elif isinstance(node, cst.Call):
            yield from _option(node, key)
        elif _key(node) == key and node.value is not None:
            yield node.value


def _of_self(source: Source, node: cst.Attribute) -> Iterator[cst.CSTNode]:
    """`self.key` as its own class assigns it."""
    owner, full = source.enclosing(node, cst.ClassDef), dotted(node)
    if owner is not None and full.startswith("self.") and full.count(".") == 1:
        for assign in source.nodes(cst.Assign, owner):
            for target in assign.targets:
                yield from _unpacked(target.target, assign.value, full)


def _hyperparameter(source: Source, node: cst.CSTNode) -> Iterator[Spot]:
    """`self.hparams.key` or `self.hparams["key"]`: what the class of a LightningModule is made with."""
    if isinstance(node, cst.Attribute):
        root, key = node.value, node.attr.value
    elif isinstance(node, cst.Subscript):
        root, key = node.value, key_of_item(node) or ""
    else:
        return
    owner = source.enclosing(node, cst.ClassDef)
    if owner is None or dotted(root) != "self.hparams":
        return
    for function in source.nodes(cst.FunctionDef, owner):
        parameter = _parameter(function, key) if function.name.value == "__init__" else None
        if parameter is not None:
            yield from _given(source, function, parameter)


def _key(node: cst.CSTNode) -> str:
    if isinstance(node, cst.AnnAssign):
        return dotted(node.target).split(".")[-1]
    if isinstance(node, cst.Arg):
        return str(node.keyword.value) if node.keyword is not None else ""
    if isinstance(node, cst.DictElement) and isinstance(node.key, cst.SimpleString):
        return str(node.key.evaluated_value)
    return ""


def _attribute(source: Source, node: cst.Assign, key: str, full: str) -> Iterator[cst.CSTNode]:
    for target in node.targets:
        t = target.target
        if (
            _in_class_body(source, node, t, key)
            or key_of_item(t) == key
            or (isinstance(t, cst.Attribute) and t.attr.value == key)
        ):
            yield node.value
        elif isinstance(t, cst.Tuple) and full:
            yield from _unpacked(t, node.value, full)


def _in_class_body(source: Source, node: cst.CSTNode, target: cst.CSTNode, key: str) -> bool:
    inside = isinstance(source.enclosing(node, (cst.ClassDef, cst.FunctionDef)), cst.ClassDef)
    return inside and dotted(target) == key


def _option(call: cst.Call, key: str) -> Iterator[cst.CSTNode]:
    if option_name(call) == key:
        yield from (a.value for a in call.args if a.keyword is not None and a.keyword.value == "default")


def option_name(call: cst.Call) -> str:
    """`warmup_steps` of `parser.add_argument("-w", "--warmup-steps", ...)`; "" of other calls."""
    if not dotted(call.func).endswith("add_argument"):
        return ""
    named = {a.keyword.value: a.value for a in call.args if a.keyword is not None}
    given = [a.value for a in call.args if a.keyword is None]
    flags = [str(v.evaluated_value) for v in (named.get("dest"), *given) if isinstance(v, cst.SimpleString)]
    best = next((f for f in flags if not f.startswith("-") or f.startswith("--")), flags[0] if flags else "")
    return best.lstrip("-").replace("-", "_")
