"""Output and target in their own places, or the sign of the reconstruction term turned round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import libcst as cst

from whyvae.probes.exchange import CROSS_ENTROPIES
from whyvae.probes.objective import Objective
from whyvae.treat.places import ONE_WAY, misplaced
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites, Spot
from whyvae.treat.terms import Terms

if TYPE_CHECKING:
    from whyvae.treat.case import Case

SNIPPETS = {
    "sign": "loss = -log_likelihood + kl\n",
    "exchanged": "rec = F.binary_cross_entropy(output, target)  # the prediction comes first: F.poisson_nll_loss(log_rate, counts)\n",
}


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    """`settings["mistake"]`: "sign" or "exchanged"."""
    sites = Sites(case)
    mistake = str(settings["mistake"])
    try:
        (_turn if mistake == "sign" else _exchange)(sites)
    except NoEdit as no:
        raise NoEdit(str(no), SNIPPETS[mistake], no.where) from no
    return sites.result()


def _turn(sites: Sites) -> None:
    """`kl + log_px` -> `kl - log_px`."""
    objective = sites.case.get(Objective)
    if objective is not None and objective.sign > 0 and not objective.pull < 0:
        raise NoEdit("the reconstruction term pulls the output to the data")
    terms = Terms(sites)
    for term in terms.reconstruction:
        spot = terms.spot(term)
        above = spot.source.parent(spot.node)
        sign = above.operator if isinstance(above, cst.BinaryOperation) and above.right is spot.node else None
        if isinstance(sign, cst.Add | cst.Subtract):
            spot.source.replace_token(sign, "-" if isinstance(sign, cst.Add) else "+")
        else:
            spot.source.scale(spot.node, "-")


def _exchange(sites: Sites) -> None:
    """The two arguments of the loss function, or of the function of the user's that computes it."""
    op = misplaced(sites.subject)
    if op is None:
        raise NoEdit("output and target stand in their places")
    first = 0 if op.name in CROSS_ENTROPIES | ONE_WAY else 1
    for depth in range(first, len(op.frames)):
        spot = sites.of(op, depth)
        if spot is not None and _pair(spot):
            return
    raise NoEdit("the call that is given output and target was not found")


def _pair(spot: Spot) -> bool:
    """Exchanges the first two arguments of a call."""
    if not isinstance(spot.node, cst.Call):
        return False
    given = [a.value for a in spot.node.args if a.keyword is None or a.keyword.value in {"input", "target"}][:2]
    if len(given) != 2:
        return False
    first, second = (spot.source.code(g) for g in given)
    spot.source.replace(given[0], second)
    spot.source.replace(given[1], first)
    return True
