"""What the results of the bank say: who was right, and how sure that is."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, mean
from typing import Any

from bench.bank.__main__ import done_in
from bench.bank.baselines import TAKEN_FOR

from whyvae.confidence import past

Row = dict[str, Any]
# Exact: read from gradients, wiring, ranges or draws; no statistics. All others get their confidence from the table.
CERTIFICATES = ("DAT01", "DAT02", "WIR01", "WIR02", "WIR03", "WIR04", "WIR05", "OBJ02", "OBJ04", "OBJ05", "OBJ06", "OBJ07",
                "OBJ08", "OUT01", "OUT02", "OUT03", "POS02", "POS03", "POS04", "POS05", "GEN02", "GEN03", "GEN04", "TRN01")  # fmt: skip
HARM = 0.05  # of the healthy twin's generation quality (0 to 1)
NO_KL = 0.1  # nats in all: what a "KL near zero" callback warns of


def load(out: Path) -> list[Row]:
    """Rows of patients that could be judged; those whose script failed to run for another reason than its fault are kept."""
    rows = list(done_in(out).values())
    _add_harm(rows)
    return sorted(rows, key=lambda row: row["id"])


def _add_harm(rows: list[Row]) -> None:
    """`harm`: generation quality lost against the mean healthy patient of the same data (and, if any, architecture)."""
    healthy: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if not row["faults"] and row.get("quality") is not None:
            for key in ((row["family"],), (row["family"], row["architecture"], row["likelihood"])):
                healthy.setdefault(key, []).append(row["quality"])
    for row in rows:
        key = (row["family"], row["architecture"], row["likelihood"])
        known = healthy.get(key) or healthy.get(key[:1])
        row["harm"] = mean(known) - row["quality"] if known and row.get("quality") is not None else None


def named(row: Row) -> list[str]:
    """Codes in the order of the report, remarks (`info`) left out."""
    return [f["code"] for f in row.get("found", []) if f["severity"] != "info"]


def answer(row: Row) -> str:
    return (named(row) or [row["verdict"]])[0]


def right(row: Row, among: int = 1) -> bool:
    if not row["codes"]:
        return bool(row["verdict"] == "healthy")
    return bool(set(named(row)[:among]) & {*row["codes"], *row["accept"]})


def sick(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["codes"]]


def well(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if not row["codes"]]


def single(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if len(row["codes"]) == 1]


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval for a share (Wilson 1927)."""
    if n == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.975)
    p, z2 = k / n, z * z
    middle, half = (p + z2 / (2 * n)), z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))


def share(hits: Iterable[bool]) -> str:
    """`k/n = p % (low to high)`."""
    values = list(hits)
    k, n = sum(values), len(values)
    if n == 0:
        return "none"
    low, high = wilson(k, n)
    return f"{k}/{n} = {100 * k / n:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def mistaken(rows: Iterable[Row], code: str) -> Counter[str]:
    """What patients with (only) this code were given instead."""
    return Counter(answer(row) for row in single(rows) if row["codes"] == [code] and not right(row))


def precision(rows: Iterable[Row], code: str) -> list[bool]:
    """Of the patients for whom this code led: was it theirs?"""
    return [code in (*row["codes"], *row["accept"]) for row in rows if answer(row) == code]


@dataclass(frozen=True)
class Claim:
    """One finding of a statistical rule: how far past its limit, how sure it said it was, whether it was right."""

    code: str
    family: str
    margin: float
    confidence: float
    right: bool
    exam: bool


def claims(rows: Iterable[Row], codes: Callable[[str], bool] = lambda code: code not in CERTIFICATES) -> list[Claim]:
    found = []
    for row in rows:
        for f in row.get("found", []):
            if f["severity"] == "info" or not codes(f["code"]):
                continue
            pasts = [
                past(float(m), op, float(v)) for _, m, op, v in f["evidence"] if _incriminating(float(m), op, float(v))
            ]
            truth = {*row["codes"], *row["accept"]}
            # A symptom is right where it is there because of a fault: it is never the patient's own code.
            correct = f["code"] in truth or (f["kind"] == "symptom" and bool(row["codes"]))
            found.append(
                Claim(f["code"], row["family"], min(pasts, default=0.0), f["confidence"], correct, row["exam"])
            )
    return found


def _incriminating(measured: float, op: str, limit: float) -> bool:
    return math.isnan(measured) or (measured > limit if op == ">" else measured < limit)


def calibration_error(pairs: list[tuple[float, bool]], bins: int = 10) -> float:
    """Expected calibration error (Guo et al. 2017) of (confidence, right), equal widths."""
    error = 0.0
    for k in range(bins):
        inside = [(c, r) for c, r in pairs if k <= min(c * bins, bins - 1e-9) < k + 1]
        if inside:
            error += abs(mean(c for c, _ in inside) - mean(r for _, r in inside)) * len(inside) / len(pairs)
    return error


def bootstrap(pairs: list[tuple[float, bool]], times: int = 500) -> tuple[float, float]:
    """95 % interval of the calibration error."""
    rng = random.Random(0)  # noqa: S311 - statistics, not a secret
    values = sorted(calibration_error(rng.choices(pairs, k=len(pairs))) for _ in range(times))
    return values[int(0.025 * times)], values[int(0.975 * times)]


def twins(rows: list[Row]) -> list[tuple[Row, Row]]:
    by_id = {row["id"]: row for row in rows}
    return [(by_id[row["twin_of"]], row) for row in rows if row["twin_of"] in by_id]


# ---------------------------------------------------------------------- baselines
def by_curve(row: Row) -> tuple[str, ...]:
    """Codes that a watcher of loss and gradients would name; empty: nothing noticed."""
    return TAKEN_FOR[row["curve"][0]] if row.get("curve") else ()


def by_kl(row: Row) -> tuple[str, ...]:
    kl = row.get("kl")
    return TAKEN_FOR["kl near zero"] if kl is not None and kl < NO_KL else ()


def by_chance(rows: list[Row]) -> float:
    """Expected share of right first causes among the sick, guessing by how often each code occurs."""
    ill = single(rows)
    counts = Counter(row["codes"][0] for row in ill)
    return sum((n / len(ill)) ** 2 for n in counts.values()) if ill else math.nan
