"""Both terms are averaged over the batch, where one is summed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whyvae.treat.averages import Averages
from whyvae.treat.sites import Sites
from whyvae.treat.terms import Terms

if TYPE_CHECKING:
    from whyvae.treat.case import Case


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    terms = Terms(sites)
    averages = Averages(sites, terms)
    mine, others = (terms.reconstruction, terms.reconstruction_side), (terms.kl, terms.kl_side)
    averages.over_batch(*mine, *others)
    averages.over_batch(*others, *mine)
    return sites.result()
