"""Where the weights of a copy follow the model's, its buffers are copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.program import calls
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites
from whyvae.treat.source import dotted

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.source import Source

SNIPPET = "for mine, theirs in zip(copy.buffers(), model.buffers()):\n    mine.copy_(theirs)\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    for source in sites.family:
        for loop in source.nodes(cst.For):
            pair = _both(source, loop.iter)
            if pair is not None:
                mine, theirs = pair
                source.insert_after(
                    loop, f"for mine, theirs in zip({mine}.buffers(), {theirs}.buffers()):\n    mine.copy_(theirs)"
                )
        for made in calls(source, "AveragedModel"):
            if not any(a.keyword is not None and a.keyword.value == "use_buffers" for a in made.args):
                end = source.offsets(made)[1] - 1
                source.splice(end, end, ", use_buffers=True")
    try:
        return sites.result()
    except NoEdit as no:
        raise NoEdit("the line at which the copy follows the model was not found", SNIPPET) from no


def _both(source: Source, node: cst.BaseExpression) -> tuple[str, str] | None:
    """(copy, model) of `zip(copy.parameters(), model.parameters())`."""
    if not isinstance(node, cst.Call) or dotted(node.func) != "zip" or len(node.args) != 2:
        return None
    owners = [
        source.code(c.func.value)
        for a in node.args
        if isinstance(c := a.value, cst.Call)
        and isinstance(c.func, cst.Attribute)
        and c.func.attr.value == "parameters"
    ]
    return (owners[0], owners[1]) if len(owners) == len(node.args) else None
