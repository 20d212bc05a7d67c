"""Each term summed over an example's numbers and averaged over the batch; the KL weighed by 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whyvae.treat.averages import Averages
from whyvae.treat.edits.kl_weight import found_weight, reweigh
from whyvae.treat.literals import literal
from whyvae.treat.sites import Sites
from whyvae.treat.terms import Terms, plain

if TYPE_CHECKING:
    from whyvae.treat.case import Case


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    terms = Terms(sites)
    averages = Averages(sites, terms)
    mine, others = terms.reconstruction, terms.kl
    for term in mine:
        averages.sum_over_features(term, terms.reconstruction_side)
    for term in others:
        averages.sum_over_features(term, terms.kl_side)
    if case.part:  # joined to the other likelihoods first, it may be averaged over the batch with them
        return sites.result()
    averages.over_batch(mine, terms.reconstruction_side, others, terms.kl_side)
    averages.over_batch(others, terms.kl_side, mine, terms.reconstruction_side)
    weigh_one(sites, terms)
    return sites.result()


def weigh_one(sites: Sites, terms: Terms) -> None:
    """The explicit weight of the KL, where there is one, becomes 1."""
    for term in terms.kl:
        weight = found_weight(sites, terms, term)
        if weight is None or weight[2] in {0.0, 1.0}:
            continue
        spot, op, value = weight
        if value > 1 or literal(spot, value) is not None:  # a smaller one may be on its way up
            reweigh(sites, terms, term, 1 / value if plain(op.name) == "mul" else value)
