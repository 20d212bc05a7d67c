"""More or fewer steps: the number of epochs, or of steps, times a factor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.literals import the_number, written
from whyvae.treat.program import backward, calls, loops
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.source import Source

SNIPPET = "for epoch in range(3 * epochs):\n    ...\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["times"]`: how many times as many."""
    sites, times = Sites(case), float(settings["times"])
    at = backward(sites)
    around = list(_around(at.source, at.node, 0))
    counts = [c for loop in around if (c := _count(at.source, loop)) is not None]
    computed = [e for loop in around if (e := _counted(at.source, loop)) is not None]
    if counts:
        number_of, value = counts[-1]
        number_of.source.replace(number_of.node, written(round(value * times), number_of.code))
    elif computed:
        end, whole = computed[-1], times == round(times)
        end.source.scale(end.node, f"{times:g} * " if whole else f"int({times:g} * ", "" if whole else ")")
    else:
        raise NoEdit("the number of epochs is not written down around the training", SNIPPET, at.where)
    return sites.result()


def _around(source: Source, node: cst.CSTNode, depth: int) -> Iterator[cst.CSTNode]:
    """The loops around a statement, and around the call of the function it stands in, innermost first."""
    yield from loops(source, node)
    function = source.enclosing(node, cst.FunctionDef)
    if function is None or depth > 4:
        return
    for call in calls(source, function.name.value):
        if not source.inside(call, function):
            yield from _around(source, call, depth + 1)
            return


def _count(source: Source, loop: cst.CSTNode) -> tuple[Spot, float] | None:
    """The literal that sets how often a loop runs."""
    end = _counted(source, loop)
    found = None if end is None else the_number(end)
    return found if found is not None and found[1] > 1 else None


def _counted(source: Source, loop: cst.CSTNode) -> Spot | None:
    """The expression that sets how often a loop runs."""
    if isinstance(loop, cst.For):
        ranges = list(calls(source, "range", loop.iter)) if isinstance(loop.iter, cst.Call) else []
        args = ranges[0].args if ranges else ()
        return Spot(source, args[-1].value) if args and len(args) < 3 else None
    if isinstance(loop, cst.While) and isinstance(loop.test, cst.Comparison):
        test = loop.test.comparisons[0]
        return Spot(source, test.comparator) if isinstance(test.operator, cst.LessThan | cst.LessThanEqual) else None
    return None
