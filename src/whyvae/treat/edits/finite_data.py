"""No NaN in the data: a spread of 0 is not divided by, the logarithm of 0 is not taken; or such examples are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.program import backward
from whyvae.treat.remedy import NoEdit
from whyvae.treat.roots import data_names, data_root
from whyvae.treat.sites import Sites
from whyvae.treat.source import Source, dotted

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = "x = (x - x.mean(0)) / (x.std(0) + 1e-6)  # constant columns become 0, not NaN\nassert x.isfinite().all()\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["way"]`: "made" (where the numbers are made), "left out" (the examples, before training)."""
    sites = Sites(case)
    if settings["way"] == "left out":
        _left_out(sites)
        return sites.result()
    root, _ = data_root(sites)
    source, end = root.source, backward(sites)
    last = source.line(end.node) if end.source is source else source.line(root.node)
    scope = source.enclosing(root.node, cst.FunctionDef)
    near = [n for n in source.nodes((cst.BinaryOperation, cst.Call)) if source.line(n) <= last
            and source.enclosing(n, cst.FunctionDef) is scope]  # fmt: skip
    found = [_divides(source, n) or _logarithm(source, n) for n in near]
    if not any(found):
        raise NoEdit("what makes numbers that are none was not found", SNIPPET, root.where)
    return sites.result()


def _left_out(sites: Sites) -> None:
    """`train = train[train.isfinite().flatten(1).all(1)]` behind the statement that gives the data its last name."""
    statement, names = data_names(sites)
    source = sites.script()
    for name in names:
        source.insert_after(statement, f"{name} = {name}[{_finite_rows(source, statement, name)}]")


def _finite_rows(source: Source, statement: cst.CSTNode, name: str) -> str:
    """In numpy's words where nothing of torch has touched the data by then."""
    last = source.line(statement)
    text = "".join(source.code(a.value) for a in source.nodes(cst.Assign) if source.line(a) <= last)
    of_torch = any(word in text for word in ("torch.tensor(", "from_numpy(", "as_tensor(", "FloatTensor(", "torch."))
    return (
        f"{name}.isfinite().flatten(1).all(1)" if of_torch else f"np.isfinite({name}).reshape(len({name}), -1).all(1)"
    )


def _divides(source: Source, node: cst.CSTNode) -> bool:
    """`/ std` -> `/ (std + 1e-6)`."""
    if not isinstance(node, cst.BinaryOperation) or not isinstance(node.operator, cst.Divide):
        return False
    text = source.code(node.right)
    name = dotted(node.right).lower() or (text.lower() if ".std(" in text else "")
    if not any(w in name for w in ("std", "sd", "scale", "sigma")):
        return False
    source.replace(node.right, f"{text} + 1e-6")
    return True


def _logarithm(source: Source, node: cst.CSTNode) -> bool:
    """`np.log(counts)` -> `np.log1p(counts)`."""
    if not isinstance(node, cst.Call) or not isinstance(node.func, cst.Attribute) or node.func.attr.value != "log":
        return False
    if dotted(node.func).split(".")[0] == "math":
        return False
    source.replace(node.func.attr, "log1p")
    return True
