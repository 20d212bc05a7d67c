"""Where a number that the training used is written down: a literal, a constant, a default, a setting."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from whyvae.treat.sites import Spot, arguments, dotted, number, simple
from whyvae.treat.source import Source

DEEPEST = 4  # names that stand for names that stand for names


def literals(spot: Spot, value: float, depth: int = 0) -> list[Spot]:
    """The literals equal to `value` that an expression may stand for, best first; none where it is computed."""
    node, source = spot.node, spot.source
    if number(node) is not None:
        return [spot] if same(number(node), value) else []
    if depth > DEEPEST:
        return []
    found: list[Spot] = []
    for candidate in bindings(source, node):
        for literal in literals(Spot(source, candidate), value, depth + 1):
            if all(literal.node is not f.node for f in found):
                found.append(literal)
    return found


def literal(spot: Spot, value: float) -> Spot | None:
    """The one literal that an expression stands for; None where it is computed, or where there are several."""
    found = literals(spot, value)
    return found[0] if len(found) == 1 else None


def same(a: float | None, b: float) -> bool:
    return a is not None and abs(a - b) <= 1e-6 * max(abs(a), abs(b))


def bindings(source: Source, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """The expressions a name, attribute or item may have its value from."""
    if isinstance(node, cst.Name):
        yield from _of_name(source, node)
    elif isinstance(node, cst.Attribute) and simple(node):
        own = list(_of_self(source, node))
        yield from own or _of_setting(source, node.attr.value, dotted(node))
    elif isinstance(node, cst.Subscript) and len(node.slice) == 1:
        index = node.slice[0].slice
        if isinstance(index, cst.Index) and isinstance(index.value, cst.SimpleString):
            yield from _of_setting(source, str(index.value.evaluated_value), "")
    elif isinstance(node, cst.Call) and dotted(node.func) in {"float", "int"} and len(node.args) == 1:
        yield node.args[0].value


def _of_name(source: Source, node: cst.Name) -> Iterator[cst.CSTNode]:
    """Assignments in its function; else what the function is given, or takes by default; else those of the module."""
    function = source.enclosing(node, cst.FunctionDef)
    while isinstance(function, cst.FunctionDef):
        mine = list(_assigned(source, node.value, function))
        if mine:
            yield from mine
            return
        parameter = _parameter(function, node.value)
        if parameter is not None:
            yield from _given(source, function, parameter)
            return
        function = source.enclosing(function, cst.FunctionDef)
    yield from _assigned(source, node.value, None)


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


def _given(source: Source, function: cst.FunctionDef, parameter: cst.Param) -> Iterator[cst.CSTNode]:
    """What calls of the function give; its default where a call gives nothing."""
    owner = source.enclosing(function, cst.ClassDef)
    name = function.name.value
    if name in {"__init__", "forward", "__call__"} and isinstance(owner, cst.ClassDef):
        names = {owner.name.value} if name == "__init__" else _instances(source, owner.name.value)
    else:
        names = {name}
    calls = [c for c in source.nodes(cst.Call) if isinstance(c, cst.Call) and dotted(c.func).split(".")[-1] in names]
    left_out = not calls
    for call in calls:
        given = arguments(function, call).get(parameter.name.value)
        left_out |= given is None
        if given is not None:
            yield given
    if left_out and parameter.default is not None:
        yield parameter.default


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
        if _in_class_body(source, node, t, key) or (isinstance(t, cst.Attribute) and t.attr.value == key):
            yield node.value
        elif isinstance(t, cst.Tuple) and full:
            yield from _unpacked(t, node.value, full)


def _in_class_body(source: Source, node: cst.CSTNode, target: cst.CSTNode, key: str) -> bool:
    inside = isinstance(source.enclosing(node, (cst.ClassDef, cst.FunctionDef)), cst.ClassDef)
    return inside and dotted(target) == key


def _option(call: cst.Call, key: str) -> Iterator[cst.CSTNode]:
    if not dotted(call.func).endswith("add_argument"):
        return
    flags = [str(a.value.evaluated_value) for a in call.args if isinstance(a.value, cst.SimpleString) and not a.keyword]
    if any(f.lstrip("-").replace("-", "_") == key for f in flags):
        yield from (a.value for a in call.args if a.keyword is not None and a.keyword.value == "default")


def uses(source: Source, name: str) -> list[cst.CSTNode]:
    """Where a name of the file is read."""
    found: list[cst.CSTNode] = []
    for node in source.nodes(cst.Name):
        if isinstance(node, cst.Name) and node.value == name:
            parent = source.parent(node)
            if not isinstance(parent, cst.AssignTarget | cst.Param) and not (
                isinstance(parent, cst.Attribute) and parent.attr is node
            ):
                found.append(node)
    return found


def written(value: float, like: str = "") -> str:
    """A number as a person writes it; with a point where `like`, which it replaces, has one."""
    if abs(value) >= 1e4 or 0 < abs(value) < 1e-3:
        mantissa, _, exponent = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(exponent)}" if exponent else mantissa
    text = f"{value:.4g}"
    return f"{text}.0" if "." in like and "." not in text and "e" not in text else text
