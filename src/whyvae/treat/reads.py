"""Is a number that is written down read in one place only, so that it can be changed there?"""

from __future__ import annotations

import libcst as cst

from whyvae.treat.bindings import key_of_item, option_name
from whyvae.treat.sites import Spot, elements
from whyvae.treat.source import Source, dotted


def read_once(at: Spot) -> bool:
    """Is what a literal is the value of (a name, a setting) read in one place, so that it can be another there and then?

    Printing it, and handing it on by its own name (`self.beta = beta`, `Trainer(beta=cfg.beta)`), do not count.
    """
    names = _held_as(at)
    if names is None:
        return True  # the literal itself is what is read
    return all(sum(_reads(file, name) for file in at.source.family()) <= 1 for name in names)


def _held_as(at: Spot) -> list[str] | None:
    """The name, parameter or key whose value a literal is; None where it stands by itself in an expression."""
    source, node = at.source, at.node
    above = source.parent(node)
    if isinstance(above, cst.Element | cst.Index):  # `a, b = 1, 2`
        node, above = above, source.parent(above)
        row = above if isinstance(above, cst.Tuple) else None
        assign = source.parent(row) if row is not None else None
        if row is None or not isinstance(assign, cst.Assign):
            return None
        place = next(i for i, e in enumerate(row.elements) if e is node)
        targets = [elements(t.target) for t in assign.targets]
        return [dotted(t[place]).split(".")[-1] for t in targets if len(t) == len(row.elements)]
    if isinstance(above, cst.Assign):
        return [dotted(t.target).split(".")[-1] for t in above.targets]
    if isinstance(above, cst.AnnAssign):
        return [dotted(above.target).split(".")[-1]]
    if isinstance(above, cst.Param):
        return [above.name.value]
    if isinstance(above, cst.DictElement):
        return [str(above.key.evaluated_value)] if isinstance(above.key, cst.SimpleString) else None
    if isinstance(above, cst.Arg) and above.keyword is not None:
        call = source.parent(above)
        option = option_name(call) if isinstance(call, cst.Call) else ""
        return [option or above.keyword.value]
    return None


def _reads(source: Source, name: str) -> int:
    nodes = source.nodes((cst.Name, cst.Attribute, cst.Subscript))
    return sum(
        1 for node in nodes
        if _called(node) == name and _is_read(source, node) and not _handed_on(source, node, name) and not told(source, node)
    )  # fmt: skip


def _called(node: cst.CSTNode) -> str | None:
    """`beta` of `beta`, `cfg.beta`, `cfg["beta"]`."""
    if isinstance(node, cst.Name):
        return node.value
    return node.attr.value if isinstance(node, cst.Attribute) else key_of_item(node)


def _is_read(source: Source, node: cst.CSTNode) -> bool:
    parent = source.parent(node)
    if isinstance(parent, cst.Attribute):
        return parent.value is node
    if isinstance(parent, cst.Arg | cst.AnnAssign):
        return parent.value is node
    return not isinstance(parent, cst.AssignTarget | cst.Param | cst.ImportAlias | cst.FunctionDef)


def _handed_on(source: Source, node: cst.CSTNode, name: str) -> bool:
    """`self.beta = beta`, `Trainer(beta=beta)`."""
    parent = source.parent(node)
    if isinstance(parent, cst.Arg):
        return parent.keyword is not None and parent.keyword.value == name
    targets = parent.targets if isinstance(parent, cst.Assign) else ()
    return any(dotted(t.target).split(".")[-1] == name for t in targets)


def told(source: Source, node: cst.CSTNode) -> bool:
    """Is it printed only?"""
    return any(
        isinstance(n, cst.FormattedString)
        or (isinstance(n, cst.Call) and dotted(n.func).split(".")[-1] in {"print", "info", "log"})
        for n in source.above(node)
    )
