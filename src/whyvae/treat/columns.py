"""One mean and one spread of a whole table, where each column needs its own: `X.std()` for `X.std(0)`."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst

from whyvae.treat.program import loops
from whyvae.treat.source import Source, dotted, name_called

PLAIN = {"float", "item", "round", "print"}  # what takes a single number of it, or only shows it
OF_ALL = {"correction", "ddof", "unbiased", "keepdim", "keepdims", "dtype"}  # given without an axis


def by_column(source: Source) -> bool:
    """Gives the one table that is scaled by a single spread a mean and a spread a column; False where there is none such.

    What is scaled back by the same two names stays right.
    """
    spreads = [call for call in _of_whole(source, "std") if not loops(source, call)]
    tables = {(_table(call), source.enclosing(call, cst.FunctionDef)) for call in spreads}
    if len(tables) != 1:
        return False
    means = [call for call in _of_whole(source, "mean") if _table(call) == _table(spreads[0])]
    scope = source.enclosing(spreads[0], cst.FunctionDef)
    for call in (*spreads, *(m for m in means if source.enclosing(m, cst.FunctionDef) is scope)):
        source.replace(call, _with_axis(source, call))
    return True


def _of_whole(source: Source, name: str) -> Iterator[cst.Call]:
    """Calls of `name` on all of a table that has a name."""
    for call in source.nodes(cst.Call):
        if name_called(call) != name or _table(call) == "":
            continue
        shown = any(
            isinstance(n, cst.FormattedString) or (isinstance(n, cst.Call) and name_called(n) in PLAIN)
            for n in source.above(call)
        )
        if not shown:
            yield call


def _table(call: cst.Call) -> str:
    """`X` of `X.std()` or `np.std(X)`; "" where an axis is given."""
    given = [a.value for a in call.args if a.keyword is None]
    if any(a.keyword is not None and a.keyword.value not in OF_ALL for a in call.args):
        return ""
    root = dotted(call.func).split(".")[0]
    if root in {"np", "numpy", "torch"}:
        return dotted(given[0]) if len(given) == 1 else ""
    return dotted(call.func.value) if isinstance(call.func, cst.Attribute) and not given else ""


def _with_axis(source: Source, call: cst.Call) -> str:
    root = dotted(call.func).split(".")[0]
    arguments = [source.code(a.value) if a.keyword is None else source.code(a) for a in call.args]
    axis = {"np": "axis=0", "numpy": "axis=0", "torch": "dim=0"}.get(root)
    arguments.insert(0 if axis is None else 1, axis or "0")
    return f"{source.code(call.func)}({', '.join(a.rstrip(', ') for a in arguments)})"
