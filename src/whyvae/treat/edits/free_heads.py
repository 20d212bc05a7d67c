"""No activation behind the layers that make mu and log-variance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whyvae.treat.activations import FENCES, remove
from whyvae.treat.remedy import NoEdit
from whyvae.treat.sites import Sites

if TYPE_CHECKING:
    from whyvae.treat.case import Case
    from whyvae.watch.tape import Op


def edit(case: Case, settings: dict[str, Any]) -> dict[str, str]:
    sites = Sites(case)
    fences = _fences(sites)
    if not fences:
        raise NoEdit("no activation stands behind the heads")
    for op in fences:
        remove(sites, op)
    return sites.result()


def _fences(sites: Sites) -> list[Op]:
    """The activations between the heads and z, but those that only make a positive sigma."""
    subject = sites.subject
    deps, lineage = subject.deps, subject.lineage
    ends = deps.ancestors([lineage.z], stop=set(lineage.heads))
    between = deps.descendants(lineage.heads) & ends
    return [
        op for op in subject.tape.ops
        if op.name in FENCES and op.name not in {"exp", "square"} and not between.isdisjoint(op.outs)
        and not between.isdisjoint(op.reads) and not _makes_sigma(sites, op)
    ]  # fmt: skip


def _makes_sigma(sites: Sites, op: Op) -> bool:
    """Softplus and the like make a standard deviation where nothing after them takes an exponential."""
    deps, ops = sites.subject.deps, sites.subject.tape.ops
    if op.name not in {"softplus", "elu", "abs"}:
        return False
    after = deps.descendants(op.outs) & deps.ancestors([sites.subject.lineage.z])
    return not any(o.name in {"exp", "exp_", "expm1"} and not after.isdisjoint(o.reads) for o in ops)
