"""Another learning rate, where it is written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.bindings import bindings
from whyvae.treat.literals import literals, written
from whyvae.treat.optimisers import add_setting, change, maker_of, setting
from whyvae.treat.program import backward
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, number

if TYPE_CHECKING:
    from whyvae.treat.case import Case

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
        given = setting(maker, "lr", 1)
        if given is None:
            add_setting(maker, f"lr={written(factor * DEFAULTS.get(optimizer.name, 1e-3))}")
            continue
        rates = (optimizer.largest_lr, optimizer.lr)
        spot = Spot(maker.source, given)
        rate = next((r for r in rates if r > 0 and len(literals(spot, r)) == 1), rates[0])
        change(spot, rate, rate * factor)
    return sites.result()


def _by_hand(sites: Sites, factor: float) -> None:
    """`p -= lr * p.grad`: the factor before the gradient."""
    at = backward(sites)
    for node in at.source.nodes(cst.AugAssign):
        value = node.value
        if ".grad" not in at.source.code(node) or not isinstance(value, cst.BinaryOperation):
            continue
        rate = value.left if ".grad" not in at.source.code(value.left) else value.right
        spot = Spot(at.source, rate)
        found = next((v for v in _values(spot)), None)
        if found is not None:
            change(spot, found, found * factor)
            return
    raise NoEdit("the statement that moves the parameters was not found", where=at.where)


def _values(spot: Spot) -> list[float]:
    """The number an expression stands for, if it is written down once."""
    value = number(spot.node)
    if value is not None:
        return [value]
    found = [number(b.node) for b in bindings(spot)]
    return [f for f in found if f is not None] if len(found) == 1 else []
