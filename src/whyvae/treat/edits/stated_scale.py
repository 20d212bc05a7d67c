"""The scale of `Normal(decoder(z), 0.5)`, or of `(x - decoder(z)) / SIGMA`, times a number, where it is written: for the loss
and for samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.literals import written
from whyvae.treat.operands import number
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.source import dotted
from whyvae.treat.terms import plain

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.source import Source

DENSITIES = ("Normal", "Laplace")  # (location, scale)
SNIPPET = "Normal(output, scale)  # scale: the root of the mean squared residual\n"


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    factor = float(settings["factor"])
    sites = Sites(case)
    for source, call in _densities(sites):
        scale = _scale(call)
        if isinstance(scale, cst.Float | cst.Integer):
            source.replace(scale, written(factor * float(scale.value), scale.value))
        elif scale is not None:
            source.scale(scale, after=f" * {factor:g}")
        else:
            continue
        return sites.result()
    for spot in _divisors(sites):
        value = number(spot.node)
        if value is not None:
            spot.source.replace(spot.node, written(factor * value, spot.code))
        else:
            spot.source.scale(spot.node, after=f" * {factor:g}")
        return sites.result()
    raise NoEdit("the decoder's distribution is not built with a scale that is written down", SNIPPET)


def _densities(sites: Sites) -> Iterator[tuple[Source, cst.Call]]:
    """Calls of DENSITIES, about the output, in the functions that make it or are given it."""
    subject = sites.subject
    output = subject.lineage.output
    for op in subject.tape.ops:
        spot = sites.of(op) if output in op.outs or output in op.reads else None
        if spot is None:
            continue
        function = spot.source.enclosing(spot.node, cst.FunctionDef)
        name = sites.names(op).get(output)
        for call in spot.source.nodes(cst.Call, function):
            about = call.args[0].value if call.args else None
            named = name is not None and isinstance(about, cst.Name) and about.value == name
            if dotted(call.func).split(".")[-1] in DENSITIES and (named or about is spot.node):
                yield spot.source, call


def _divisors(sites: Sites) -> Iterator[Spot]:
    """Of the number that residuals are divided by, before they are squared: itself, or the one place that gives it its name."""
    tape, deps, output = sites.subject.tape, sites.subject.deps, sites.subject.lineage.output
    for op in tape.ops:
        position = deps.producer.get(op.reads[0]) if op.reads and plain(op.name) == "div" else None
        if position is None or plain(tape.ops[position].name) != "sub" or output not in tape.ops[position].reads:
            continue
        for value, spot in sites.operands(op):
            if not isinstance(value, int | float):
                continue
            held = [spot] if number(spot.node) is not None else list(bindings(spot))
            yield from held if len(held) == 1 else ()


def _scale(call: cst.Call) -> cst.BaseExpression | None:
    named = next((a.value for a in call.args if a.keyword is not None and a.keyword.value == "scale"), None)
    plain = [a.value for a in call.args if a.keyword is None and not a.star]
    return named or (plain[1] if len(plain) > 1 else None)
