"""Another learning rate, where it is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.by_hand import steps
from whyvae.treat.literals import literals, the_number, written
from whyvae.treat.optimisers import add_setting, change, maker_of, setting
from whyvae.treat.program import backward
from whyvae.treat.reads import read_once
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, elements
from whyvae.treat.source import dotted

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPET = "parameter -= 0.1 * lr * parameter.grad  # a tenth of the step\n"
DEFAULTS = {"SGD": 1e-3, "RMSprop": 1e-2, "Adagrad": 1e-2, "Adadelta": 1.0, "LBFGS": 1.0, "Adamax": 2e-3, "NAdam": 2e-3}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["factor"]`: the new rate as a multiple of the old one."""
    sites, factor = Sites(case), float(settings["factor"])
    if factor == 1:
        raise NoEdit("the learning rate is that already")
    if not case.subject.optimizers:
        _by_hand(sites, factor)
    for i, optimizer in enumerate(case.subject.optimizers):
        maker = maker_of(sites, i)
        peak = _peak(maker)
        given = peak or setting(maker, "lr", 1)
        groups, own = ([], []) if peak else _groups(maker)
        for rate in own:
            _times(rate, (), factor)
        if own and len(own) == len(groups):
            continue  # each group has its own rate
        if given is None:
            add_setting(maker, f"lr={written(factor * DEFAULTS.get(optimizer.name, 1e-3))}")
        else:
            _times(Spot(maker.source, given), (optimizer.largest_lr, optimizer.lr), factor)
    return sites.result()


def _times(spot: Spot, rates: tuple[float, ...], factor: float) -> None:
    """The number that was seen as a rate; where a schedule changed it at once, the one that is written down."""
    seen = next((r for r in rates if r > 0 and len(literals(spot, r)) == 1), None)
    found = the_number(spot) if seen is None else None
    if found is not None:
        found[0].source.replace(found[0].node, written(found[1] * factor, found[0].code))
    else:
        rate = seen or next(iter(rates), 1.0)
        change(spot, rate, rate * factor)


def _groups(maker: Spot) -> tuple[list[cst.Dict], list[Spot]]:
    """The groups of parameters an optimiser is made with, and the rates of those that have one of their own."""
    assert isinstance(maker.node, cst.Call)  # noqa: S101 - a maker is a call
    groups = [e for e in elements(maker.node.args[0].value) if isinstance(e, cst.Dict)]
    own = [
        Spot(maker.source, e.value) for g in groups for e in g.elements
        if isinstance(e, cst.DictElement) and isinstance(e.key, cst.SimpleString) and e.key.evaluated_value == "lr"
    ]  # fmt: skip
    return groups, own


def _peak(maker: Spot) -> cst.BaseExpression | None:
    """`max_lr` of the `OneCycleLR` that sets the optimiser's rates, whatever its own."""
    source, statement = maker.source, maker.source.statement(maker.node)
    names = [dotted(t.target) for t in statement.targets] if isinstance(statement, cst.Assign) else []
    for call in source.nodes(cst.Call):
        if dotted(call.func).split(".")[-1] == "OneCycleLR" and call.args and dotted(call.args[0].value) in names:
            return setting(Spot(source, call), "max_lr", 1)
    return None


def _by_hand(sites: Sites, factor: float) -> None:
    """`p -= lr * p.grad`: the rate where it is written down, else before the gradient."""
    at = backward(sites)
    found = [step for source in sites.family for step in steps(source)]
    for rate in {id(s.rate.node): s.rate for s in found}.values():
        written_down = the_number(rate)
        if written_down is not None and (written_down[0].node is rate.node or read_once(written_down[0])):
            literal, value = written_down
            literal.source.replace(literal.node, written(value * factor, literal.code))
        else:
            rate.source.scale(rate.node, f"{written(factor)} * ")
    if not found:
        raise NoEdit("the statement that moves the parameters was not found", SNIPPET, at.where)
