"""Fits the confidence of statistical findings on the bank and writes src/whyvae/confidence.json.

    python -m bench.bank.fit --out FOLDER

Logistic regression (Platt 1999) of "right" on the margin, one slope for all codes (not below 0: more evidence never makes
less sure), one offset a code, drawn to the common offset, and all to a prior, so that a code seen twice is not sure.
Symptoms keep what their rule says: that a unit is silent or a code empty is measured, not inferred.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from bench.bank.results import CERTIFICATES, Claim, claims, load

from whyvae.confidence import probability
from whyvae.rule import all_rules

TABLE = Path(__file__).resolve().parents[2] / "src" / "whyvae" / "confidence.json"
PRIOR = 1.0  # precision of the offsets around the common one: about two patients' worth
FEWEST = 30  # findings of statistical causes: with fewer there is no table, and rules keep what they say themselves
FALLBACK = {"offset": 1.4, "slope": 0.5}  # before any patient: 80 % at the limit; drawn to it as by two patients


def fit(found: list[Claim]) -> dict[str, Any]:
    """Newton's method on the penalised likelihood; a handful of parameters."""
    import numpy as np

    codes = sorted(c for c, rule in all_rules().items() if c not in CERTIFICATES and rule.kind == "cause")
    index = {code: k for k, code in enumerate(codes)}
    used = [c for c in found if c.code in index]
    if len(used) < FEWEST:
        return {"slope": 0.0, "offset": {}}
    n = len(codes)
    design = np.zeros((len(used), n + 2))  # offsets, common offset, slope
    for row, claim in zip(design, used, strict=True):
        row[[index[claim.code], n, n + 1]] = 1, 1, claim.margin
    y = np.array([claim.right for claim in used], float)
    centre = np.array([0.0] * n + [FALLBACK["offset"], FALLBACK["slope"]])
    penalty = np.array([PRIOR] * n + [0.5, 0.5])
    w = centre.copy()
    for _ in range(50):
        p = 1 / (1 + np.exp(-design @ w))
        gradient = design.T @ (p - y) + penalty * (w - centre)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + np.diag(penalty)
        w = w - np.linalg.solve(hessian, gradient)
        w[-1] = max(0.0, w[-1])
    return {"slope": round(float(w[-1]), 4), "offset": {c: round(float(w[n] + w[index[c]]), 4) for c in codes}}


def left_out(found: list[Claim]) -> list[tuple[float, bool]]:
    """(confidence, right) of each claim, by a table fitted without the claim's data family."""
    pairs = []
    for family in sorted({c.family for c in found}):
        table = fit([c for c in found if c.family != family])
        pairs += [
            (probability(table, c.code, c.margin), c.right)
            for c in found
            if c.family == family and c.code in table["offset"]
        ]
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    rows = load(parser.parse_args().out)
    known = [row for row in rows if not row["exam"]]
    found = claims(known)
    counts = Counter(c.code for c in found)
    table = fit(found)
    source = {
        "patients": len(known), "findings": dict(sorted(counts.items())), "families": sorted({row["family"] for row in known}),
        "commits": sorted({row["commit"] for row in known}), "date": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "command": "python -m bench.bank.fit", "few": f"below {FEWEST} findings of statistical causes nothing is fitted, and a rule keeps the confidence it gives itself",
    }  # fmt: skip
    TABLE.write_text(json.dumps({**table, "from": source}, indent=1) + "\n")
    print(f"{len(found)} findings of {len(known)} patients; slope {table['slope']}")
    for code, offset in table["offset"].items():
        print(f"{code}: {1 / (1 + math.exp(-offset)):.2f} at the limit, {counts[code]} findings")


if __name__ == "__main__":
    main()
