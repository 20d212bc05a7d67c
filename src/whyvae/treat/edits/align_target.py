"""The output is compared with the very input it was made from, in the same shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, arguments

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.watch.tape import Op

SNIPPET = (
    "assert output.shape == x.shape  # x: the tensor the encoder was given\nloss = reconstruction_error(output, x)\n"
)


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    lineage, slots = case.subject.lineage, case.subject.tape.slots
    op = next((o for o in case.subject.tape.ops if o.index == lineage.meeting.op), None)
    target = lineage.target
    output = sites.operand(op, lineage.output) if op is not None else None
    given = sites.operand(op, target) if op is not None and target is not None else None
    if op is None or target is None or output is None or given is None:
        raise NoEdit("the place where output and target meet was not found", SNIPPET)
    shapes = slots[lineage.output].shape, slots[target].shape
    if shapes[0] != shapes[1] and slots[lineage.output].numel == slots[target].numel and given.simple:
        output.source.replace(output.node, f"{output.closed}.view_as({given.code})")
    elif settings.get("what") == "input":
        _input(sites, op, given)
    else:
        raise NoEdit("output and target have one shape", SNIPPET, given.where)
    return sites.result()


def _input(sites: Sites, op: Op, given: Spot) -> None:
    """What the encoder was given, in place of another tensor."""
    subject = sites.subject
    slots, data = subject.tape.slots, subject.lineage.data
    name = sites.name(data, op)
    values = subject.replay.run([data, subject.lineage.target])
    a, b = values[data], values[subject.lineage.target]
    if a.shape == b.shape and bool((a == b).all()):
        raise NoEdit("the target is the input already", SNIPPET, given.where)
    alike = slots[data].shape == slots[subject.lineage.target].shape
    if name is None and alike and (outer := _argument(sites, op, given)) is not None:
        given, name = outer
    if name is None or not alike or name == given.code:
        raise NoEdit("the input has no name where output and target meet", SNIPPET, given.where)
    given.source.replace(given.node, name)


def _argument(sites: Sites, op: Op, given: Spot) -> tuple[Spot, str] | None:
    """(What is handed on for the target, the input's name there), in the innermost function that has one for it."""
    for depth in range(1, len(op.frames)):
        function, call = given.source.enclosing(given.node, cst.FunctionDef), sites.of(op, depth)
        if function is None or call is None or not isinstance(call.node, cst.Call):
            return None
        node = arguments(function, call.node).get(given.code)
        if node is None:
            return None
        given = Spot(call.source, node)
        name = sites.names_of(op.frames[depth].code).get(sites.subject.lineage.data)
        if name is not None:
            return given, name
    return None
