"""A loss of several likelihoods (numbers, yes or no, classes of a table, each with a head of its own): one at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from whyvae.audit.likelihood import Likelihood
from whyvae.probe import CannotMeasure
from whyvae.probes.objective import audited_likelihood
from whyvae.watch.dependencies import Dependencies

MOST = 8  # meetings of further outputs with data, that are looked at
UNCLEAR = {"error", "mixed", "density", "unknown", "none", "batch mean"}  # what may be one term of a likelihood in many


def further_parts(subject: Any) -> list[Any]:
    """The subject as if each further output that the loss compares with data were its only one; found once per subject.

    Not: what another layer's output of the same likelihood is (the steps of a recurrent decoder), what is compared with no
    data where the first output is, and a coarser view of data that the first output already tells whole.
    """
    kept: dict[str, Any] = subject.__dict__
    if "_parts" not in kept:
        kept["_parts"] = list(_further(subject))
    found: list[Any] = kept["_parts"]
    return found


def _further(subject: Any) -> Iterator[Any]:
    lineage, deps = subject.lineage, subject.deps
    first = _likelihood(subject)
    if first is None:
        return
    from_data = deps.descendants([lineage.data]) if lineage.data >= 0 else set()
    slots, whole = deps.tape.slots, deps.tape.slots[lineage.data].numel if lineage.data >= 0 else math.inf
    outputs, kinds = [lineage.output], {_kind(deps, first)}
    for meeting in lineage.meetings[: MOST + 1]:
        same = {meeting.output, *deps.ancestors([meeting.output]), *deps.descendants([meeting.output])}
        if meeting.target is None or meeting.features or not same.isdisjoint(outputs):
            continue
        if lineage.target in from_data and meeting.target not in from_data:
            continue
        if slots[meeting.target].numel < whole <= slots[lineage.target].numel:
            continue
        part = replace(subject, lineage=replace(lineage, meetings=(meeting,), part=True))
        found = _likelihood(part)
        if found is not None and found.family not in UNCLEAR and _kind(deps, found) not in kinds:
            outputs.append(meeting.output)
            kinds.add(_kind(deps, found))
            yield part


def _likelihood(subject: Any) -> Likelihood | None:
    try:
        return audited_likelihood(subject)
    except CannotMeasure:
        return None


def _kind(deps: Dependencies, found: Likelihood) -> tuple[str, tuple[int, ...]]:
    """The family, and the parameters of the last layer above the output."""
    above = deps.ancestors([found.meeting.output])
    layers = [op for op in deps.tape.ops if deps.is_mixing(op) and not above.isdisjoint(op.outs)]
    return found.family, tuple(r for r in layers[-1].reads if r in deps.parametric) if layers else ()
