"""How sure a finding is: from how far its evidence lies past its limits, by a table fitted on the bank. No torch here.

Certificates (identities, checked in float64) keep the confidence that their rule gives. For every other rule the table
`confidence.json` holds an offset, and one slope for all: P(right) = 1 / (1 + exp(-(offset + slope * margin))).
It is written by `python -m bench.bank.fit`, which says how, and from whom.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from whyvae.verdict import Evidence, Finding

MOST = 4.0  # a margin beyond e^4 = 55 times the limit says no more
SUREST = 0.99  # what a certificate gets


def margin(evidence: tuple[Evidence, ...]) -> float:
    """How far past its limit the weakest incriminating number lies, as a natural logarithm, from 0 to 4.

    Evidence in words (yes or no) has no distance and is left out; where nothing else is there, 0.
    """
    found = [past(e.measured, e.limit.op, e.limit.value) for e in evidence if e.incriminating and not e.text]
    return min(found, default=0.0)


def past(measured: float, op: str, limit: float) -> float:
    """The logarithm of measured / limit (or of limit / measured); where a sign makes that impossible, of their difference."""
    if not math.isfinite(measured):
        return MOST
    high, low = (measured, limit) if op == ">" else (limit, measured)
    if low > 0:
        ratio = math.log(high / low) if high > 0 else 0.0
    else:
        ratio = math.log1p((high - low) / max(abs(limit), 1e-9))
    return min(MOST, max(0.0, ratio))


def calibrated(code: str, finding: Finding) -> Finding:
    """`finding` with the confidence of the table; as it is where the table does not know its code."""
    known = table()
    if code not in known["offset"]:
        return finding
    return replace(finding, confidence=probability(known, code, margin(finding.evidence)))


def probability(known: dict[str, Any], code: str, distance: float) -> float:
    score = known["offset"][code] + known["slope"] * distance
    return round(min(SUREST, 1 / (1 + math.exp(-score))), 3)


@cache
def table() -> dict[str, Any]:
    """Keys: slope, offset (by code), and where they come from."""
    loaded: dict[str, Any] = json.loads(files("whyvae").joinpath("confidence.json").read_text(encoding="utf-8"))
    return loaded
