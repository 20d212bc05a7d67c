"""The data is scaled where it is made: into [0, 1] by its range, or each feature to mean 0 and spread 1.

A squared error falls with the square of the scale. The loss follows it by `kl_factor`, or by `calibrate` (see `calibrated`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.treat.columns import by_column
from whyvae.treat.edits.calibrated import calibrate
from whyvae.treat.edits.kl_weight import reweigh
from whyvae.treat.items import item
from whyvae.treat.literals import written
from whyvae.treat.program import loops
from whyvae.treat.remedy import NoEdit
from whyvae.treat.roots import data_root, siblings
from whyvae.treat.sites import Sites, Spot, elements
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
    if how == "standardise" and by_column(sites.script()):
        return sites.result()
    snippet = "x = (x - x.mean(0)) / (x.std(0) + 1e-6)  # x: all the data, before training\n"
    if how == "range":
        low, high = float(settings["low"]), float(settings["high"])
        before, after = into_unit(low, high)
        snippet = f"x = {before}x{after}  # before training; new examples come out on this scale\n"
    try:
        spot, name = data_root(sites)
    except NoEdit as no:
        one = item(sites) if how == "range" else None
        if one is None:
            raise NoEdit(str(no), snippet) from no
        one.source.scale(one.node, before, after)
        one.source.comment(one.node, "new examples come out on this scale")
        return sites.result()
    if how == "range":
        for value in (spot, *siblings(spot)):
            value.source.scale(value.node, before, after)
        spot.source.comment(spot.node, "new examples come out on this scale")
        return sites.result()
    _standardise(spot, name, snippet)
    return sites.result()


def _standardise(spot: Spot, name: str, snippet: str) -> None:
    """Each feature by its mean and spread; what is made like it (a test set) by the same two."""
    source = spot.source
    scope = source.enclosing(spot.node, cst.FunctionDef)
    others = [_name_of(s) if source.enclosing(s.node, cst.FunctionDef) is scope else "" for s in siblings(spot)]
    statement = source.statement(spot.node)
    given = (
        [dotted(e) for t in statement.targets for e in elements(t.target)] if isinstance(statement, cst.Assign) else []
    )
    if not isinstance(statement, cst.Assign) or name not in given or loops(source, spot.node) or not all(others):
        raise NoEdit("the data has no name before the training", snippet, spot.where)
    if not others:
        behind = _last_change(source, statement, name)
        source.insert_after(behind, f"{name} = ({name} - {name}.mean(0)) / ({name}.std(0) + 1e-6)")
        return
    mean, spread = f"{name}_mean", f"{name}_std"
    if any(n.value in {mean, spread} for n in source.nodes(cst.Name)):
        raise NoEdit("the names for mean and spread are taken", snippet, spot.where)
    last = max((_last_change(source, s, n) for s, n in _named(spot, statement, name)), key=source.line)
    every = [name, *(o for o in others if o != name)]
    if any(_read_between(source, statement, last, n) for n in every):
        raise NoEdit("the data is used before all of it is made", snippet, spot.where)
    made = ", ".join(f"({n} - {mean}) / {spread}" for n in every)
    told = "  # new examples come out on this scale"
    source.insert_after(
        last, f"{mean}, {spread} = {name}.mean(0), {name}.std(0) + 1e-6\n{', '.join(every)} = {made}{told}"
    )


def _read_between(source: Source, first: cst.CSTNode, last: cst.CSTNode, name: str) -> bool:
    lines = range(source.end_line(first) + 1, source.end_line(last) + 1)
    own = {id(source.statement(n)) for n in source.nodes(cst.AssignTarget) if dotted(n.target) == name}
    reads = [
        n for n in source.nodes(cst.Name) if n.value == name and not isinstance(source.parent(n), cst.AssignTarget)
    ]
    return any(source.line(n) in lines and id(source.statement(n)) not in own for n in reads)


def _named(spot: Spot, statement: cst.Assign, name: str) -> list[tuple[cst.CSTNode, str]]:
    """(statement, name) of the data and of what is made like it."""
    found: list[tuple[cst.CSTNode, str]] = [(statement, name)]
    for other in siblings(spot):
        line = other.source.statement(other.node)
        if line is not None:
            found.append((line, _name_of(other)))
    return found


def _name_of(spot: Spot) -> str:
    """What an expression is assigned to in its own scope, alone or in a row; "" where that has no name."""
    statement = spot.source.statement(spot.node)
    if not isinstance(statement, cst.Assign) or len(statement.targets) != 1:
        return ""
    names, values = elements(statement.targets[0].target), elements(statement.value)
    row = zip(names, values, strict=True) if len(names) == len(values) else ()
    return next((dotted(n) for n, v in row if v is spot.node), "")


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
