"""Multiplies the KL term by a factor: in the number that already weighs it where there is one, else where it is added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whyvae.treat.literals import literal, written
from whyvae.treat.reads import read_once
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot, number
from whyvae.treat.terms import Term, Terms, constant, plain
from whyvae.watch.tape import Op, Ref

if TYPE_CHECKING:
    from whyvae.treat.case import Case

ALMOST = 1e-3  # a factor this near to 1 changes nothing


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    factor = float(settings["factor"])
    if abs(factor - 1) < ALMOST:
        raise NoEdit("the KL term has this weight already")
    sites = Sites(case)
    terms = Terms(sites)
    for term in terms.kl:
        reweigh(sites, terms, term, factor)
    return sites.result()


def reweigh(sites: Sites, terms: Terms, term: Term, factor: float) -> None:
    """Collects the edit that multiplies one term by `factor`."""
    weight = found_weight(sites, terms, term)
    if weight is None:
        spot = terms.spot(term)
        spot.source.scale(spot.node, f"{written(factor)} * ")
        return
    spot, op, value = weight
    new = value * (factor if plain(op.name) == "mul" else 1 / factor)
    at = literal(spot, value)
    if at is not None and (at.node is spot.node or read_once(at)):
        at.source.replace(at.node, written(new, at.code))
    elif plain(op.name) == "mul":
        spot.source.scale(spot.node, f"{written(factor)} * ")
    else:
        outer = terms.spot(term)
        outer.source.scale(outer.node, f"{written(factor)} * ")


def found_weight(sites: Sites, terms: Terms, term: Term) -> tuple[Spot, Op, float] | None:
    """(expression, the function that multiplies by it, its value) of the number that weighs the KL term."""
    candidates = []
    for op in terms.chain(term.slot, terms.kl_side):
        value = _factor(sites, op)
        if value is None:
            continue
        spot = next((s for v, s in sites.operands(op) if not isinstance(v, Ref) or v.slot not in terms.kl_side), None)
        if (
            spot is not None
            and not (number(spot.node) is not None and abs(value) in {0.5, 1.0, 2.0})
            and not is_size(spot)
        ):
            candidates.append((spot, op, value))
    named = [c for c in candidates if number(c[0].node) is None]
    return next(iter([*named, *candidates]), None)


def _factor(sites: Sites, op: Op) -> float | None:
    """The number that `op` multiplies or divides by, as a number or as a tensor of one."""
    value = constant(op)
    if value is not None or plain(op.name) not in {"mul", "div"}:
        return value
    others = [sites.subject.tape.slots[a.slot] for a in op.args if isinstance(a, Ref)]
    single = [s for s in others if s.external and s.numel == 1 and s.value is not None and not s.trainable]
    return float(single[0].value) if len(single) == 1 and single[0].value is not None else None


def is_size(spot: Spot) -> bool:
    """`len(x)`, `x.size(0)`, `x.shape[0]`: what averages, and is no weight."""
    text = spot.code
    return "len(" in text or ".shape" in text or ".size(" in text or ".numel(" in text
