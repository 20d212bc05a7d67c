"""What keeps training to a few of its examples goes: `x = x[:64]`, `self.pool[i % 16]`, `x[torch.randint(64, (32,))]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.literals import the_number
from whyvae.treat.operands import simple
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, elements
from whyvae.treat.source import Source, dotted

if TYPE_CHECKING:
    from whyvae.treat.case import Case

NEAR = 1.5  # times: a count of the different examples that were seen is estimated
SNIPPET = "x_train = x[:n_train]  # n_train: thousands; and each example is drawn: x_train[torch.randint(len(x_train), (batch,))]\n"
Change = Callable[[], None]


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["rows"]`: how many different examples training saw, where that was counted; else 0."""
    sites, rows = Sites(case), float(settings.get("rows", 0))
    found = [change for file in sites.family for count, change in _limits(file, counted=rows > 0) if _is(count, rows)]
    if len(found) != 1:
        raise NoEdit("what keeps training to few examples is not written down in one place", SNIPPET)
    found[0]()
    return sites.result()


def _is(count: float, rows: float) -> bool:
    return not rows or rows / NEAR <= count <= rows * NEAR


def _limits(source: Source, *, counted: bool) -> Iterator[tuple[float, Change]]:
    """(how many examples are left, what takes the limit out); of an index only where it is known how many were seen."""
    for assign in source.nodes(cst.Assign):
        if (count := _cut_down(source, assign)) is not None:
            yield count, lambda assign=assign: source.remove(assign)  # type: ignore[misc]
    for item in source.nodes(cst.Subscript) if counted else ():
        index = item.slice[0].slice if len(item.slice) == 1 else None
        inner = index.value if isinstance(index, cst.Index) else None
        if isinstance(inner, cst.BinaryOperation) and isinstance(inner.operator, cst.Modulo):
            count = _count(source, inner.right)
            if count is not None and _as_long(source, item):
                yield count, lambda inner=inner: source.replace(inner, source.code(inner.left))  # type: ignore[misc]
        elif isinstance(inner, cst.Call) and dotted(inner.func).split(".")[-1] == "randint" and simple(item.value):
            at = _highest(inner)
            if at is not None and (count := _count(source, at)) is not None:
                yield count, lambda at=at, item=item: source.replace(at, f"len({source.code(item.value)})")  # type: ignore[misc]


def _count(source: Source, node: cst.CSTNode) -> float | None:
    found = the_number(Spot(source, node))
    return found[1] if found is not None and found[1] > 1 else None


def _cut_down(source: Source, assign: cst.Assign) -> float | None:
    """The n of `x = x[:n]`, or of `x, y = x[:n], y[:n]`, where the rest is not read (it is no split)."""
    counts = set()
    values, targets = elements(assign.value), elements(assign.targets[0].target)
    for value, target in zip(values, targets, strict=False):
        if not isinstance(value, cst.Subscript):
            return None
        part = value.slice[0].slice
        if not isinstance(part, cst.Slice) or part.lower is not None or part.upper is None or part.step is not None:
            return None
        if source.code(value.value) != source.code(target) or _rest_is_read(source, source.code(target)):
            return None
        counts.add(_count(source, part.upper))
    return counts.pop() if len(counts) == 1 and len(values) == len(targets) else None


def _rest_is_read(source: Source, name: str) -> bool:
    """`x[n:]` anywhere: the examples left out are for something else."""
    for item in source.nodes(cst.Subscript):
        part = item.slice[0].slice
        if source.code(item.value) == name and isinstance(part, cst.Slice) and part.lower is not None:
            return True
    return False


def _as_long(source: Source, item: cst.Subscript) -> bool:
    """In `__getitem__` of a data set that is as long as what is indexed."""
    function = source.enclosing(item, cst.FunctionDef)
    owner = source.enclosing(item, cst.ClassDef)
    if function is None or owner is None or function.name.value != "__getitem__":
        return False
    lengths = [
        r
        for f in source.nodes(cst.FunctionDef, owner)
        if f.name.value == "__len__"
        for r in source.nodes(cst.Return, f)
    ]
    return [source.code(r.value) for r in lengths] == [f"len({source.code(item.value)})"]


def _highest(call: cst.Call) -> cst.CSTNode | None:
    """`high` of `torch.randint(high, size)` and `torch.randint(low, high, size)`."""
    given = [a.value for a in call.args if a.keyword is None]
    named = {a.keyword.value: a.value for a in call.args if a.keyword is not None}
    sizes = [g for g in given if isinstance(g, cst.Tuple | cst.List)]
    before = given[: given.index(sizes[0])] if sizes else given
    return named.get("high") or (before[-1] if before and (sizes or "size" in named) else None)
