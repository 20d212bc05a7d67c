"""A schedule of the learning rate is stepped once an epoch, in place of once a batch; or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.program import backward, built, calls, loops, receiver
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import Source, dotted

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = "for epoch in range(epochs):\n    for x in loader:\n        ...\n    scheduler.step()  # once an epoch\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["way"]`: "epoch" or "without"."""
    sites = Sites(case)
    at = backward(sites)
    mine = loops(at.source, at.node)
    found = [c for c in calls(at.source, "step") if schedules(at.source, c) and loops(at.source, c)[:1] == mine[:1]]
    if len(found) != 1 or not mine:
        raise NoEdit("the line that steps the schedule with each batch was not found", SNIPPET, at.where)
    statement = at.source.statement(found[0])
    if not isinstance(statement, cst.Expr) or statement.value is not found[0]:
        raise NoEdit("the schedule is not stepped in a line of its own", SNIPPET, at.where)
    if settings["way"] == "without":
        at.source.remove(statement)
    else:
        _outwards(at.source, statement, mine, SNIPPET)
    return sites.result()


def schedules(source: Source, step: cst.Call) -> bool:
    """Is it the `step` of a schedule: of what was made by a class of `lr_scheduler`?"""
    made = built(Spot(source, receiver(step))) if isinstance(step.func, cst.Attribute) else None
    name = dotted(made.node.func) if made is not None and isinstance(made.node, cst.Call) else ""
    return "lr_scheduler" in name or name.split(".")[-1].endswith(("LR", "Schedule", "Scheduler"))


def _outwards(source: Source, statement: cst.CSTNode, around: list[cst.CSTNode], snippet: str) -> None:
    """From the loop over batches to behind it, in the loop over epochs."""
    inner = around[0]
    if len(around) < 2 or source.enclosing(statement, (cst.If, cst.For, cst.While)) is not inner:
        raise NoEdit("there is no loop over epochs around the one over batches", snippet)
    line = source.parent(statement)
    block: list[cst.CSTNode] = list(getattr(getattr(inner, "body", None), "body", ()))
    if not isinstance(line, cst.SimpleStatementLine) or len(line.body) > 1 or len(block) < 2:
        raise NoEdit("the schedule is not stepped in a line of its own", snippet)
    if block[-1] is line:
        start, column = source.offsets(statement)[0], source.column(inner)
        begin = start - source.column(statement)
        source.splice(begin, start, source.text[begin : begin + column])
    else:
        source.insert_after(inner, source.code(statement))
        source.remove(statement)
