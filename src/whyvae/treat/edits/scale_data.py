"""The data is scaled where it is made: into [0, 1] by its range, or each feature to mean 0 and spread 1.

A squared error falls with the square of the scale. The loss follows it by `kl_factor`, or by `calibrate` (see `calibrated`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.edits.calibrated import calibrate
from whyvae.treat.edits.kl_weight import reweigh
from whyvae.treat.literals import written
from whyvae.treat.program import data_root, loops, siblings
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites
from whyvae.treat.source import dotted
from whyvae.treat.terms import Terms

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.treat.source import Source


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    if settings.get("calibrate"):
        calibrate(sites)
    elif "kl_factor" in settings:
        terms = Terms(sites)
        for term in terms.kl:
            reweigh(sites, terms, term, float(settings["kl_factor"]))
    how = settings.get("how", "range")
    snippet = "x = (x - x.mean(0)) / (x.std(0) + 1e-6)  # x: all the data, before training\n"
    if how == "range":
        low, high = float(settings["low"]), float(settings["high"])
        before, after = into_unit(low, high)
        snippet = f"x = {before}x{after}  # before training; new examples come out on this scale\n"
    try:
        spot, name = data_root(sites)
    except NoEdit as no:
        raise NoEdit(str(no), snippet) from no
    if how == "range":
        for value in (spot, *siblings(spot)):
            value.source.scale(value.node, before, after)
        spot.source.comment(spot.node, "new examples come out on this scale")
        return sites.result()
    statement = spot.source.statement(spot.node)
    if not name or not isinstance(statement, cst.Assign) or loops(spot.source, spot.node):
        raise NoEdit("the data has no name before the training", snippet, spot.where)
    spot.source.insert_after(
        _last_change(spot.source, statement, name), f"{name} = ({name} - {name}.mean(0)) / ({name}.std(0) + 1e-6)"
    )
    return sites.result()


def _last_change(source: Source, statement: cst.CSTNode, name: str) -> cst.CSTNode:
    """The last statement, behind the one that makes the data and outside of loops, that writes into it: `x[:, 2] *= 100`."""
    last, scope = statement, source.enclosing(statement, cst.FunctionDef)
    for change in source.nodes((cst.Assign, cst.AugAssign)):
        targets = [t.target for t in change.targets] if isinstance(change, cst.Assign) else [change.target]
        written_into = any(dotted(t.value if isinstance(t, cst.Subscript) else t) == name for t in targets)
        if written_into and source.enclosing(change, cst.FunctionDef) is scope and not loops(source, change):
            last = max(last, change, key=source.line)
    return last


def into_unit(low: float, high: float) -> tuple[str, str]:
    """What stands before and behind an expression to take [low, high] to [0, 1].

    Bounds that are no whole numbers are those of the examples that were seen: what lies beyond is cut off.
    """
    cut = "" if float(low).is_integer() and float(high).is_integer() else ".clip(0, 1)"
    shift = "" if low == 0 else f" - {written(low)}" if low > 0 else f" + {written(-low)}"
    before, after = ("(", f"{shift}) / {written(high - low)}") if shift else ("", f" / {written(high)}")
    return (f"({before}", f"{after}){cut}") if cut else (before, after)
